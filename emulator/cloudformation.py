"""CloudFormation is not emulated. Every call gets an error, so that clients do not assume that a stack
exists.

Without this route the calls would go to moto, whose SageMaker resources have no containers behind them.
"""

import uuid

from starlette.requests import Request
from starlette.responses import Response

PATH = "/cloudformation/"

_BODY = """\
<ErrorResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">
  <Error>
    <Type>Sender</Type>
    <Code>InvalidAction</Code>
    <Message>CloudFormation is not available on the local platform: deploy stacks to AWS, or create \
the resources with the SageMaker API (scripts/deploy.py).</Message>
  </Error>
  <RequestId>{request_id}</RequestId>
</ErrorResponse>
"""


async def refuse(_: Request) -> Response:
    return Response(_BODY.format(request_id=uuid.uuid4()), 400, media_type="text/xml")
