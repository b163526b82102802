"""A module for each library: how it is set up, how its jobs are pushed, and how its worker runs."""
