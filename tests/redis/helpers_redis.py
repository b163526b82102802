"""Short words for the tests of the Redis backend."""

from words import counts as counts
from words import ids as ids
from words import message as message
from words import messages as messages
from words import receipts as receipts
