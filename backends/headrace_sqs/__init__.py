"""The Amazon SQS backend: standard queues, through boto3's blocking clients in threads of its own."""
