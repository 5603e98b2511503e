"""The function behind HTTP.

deployment    which fleet answers now
lambda_api    the Lambda API, for SDKs and the AWS CLI
http_front    a function URL, or an HTTP API
asynchronous  the queue of asynchronous invocations, with retries
"""
