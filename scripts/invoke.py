"""python scripts/invoke.py many-models sentiment.tar.gz --text "I love this little camera."

Sends one request to one model and prints the response on stdout; variant, time and progress go to
stderr. The input is --text, --json '{"inputs": …, "parameters": {…}}' or --file photo.jpg. If the model is
still loading after SageMaker's limit of 60 s, the request is repeated until the --wait limit.
"""

import argparse
import json
import mimetypes
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import command_line

# SageMaker responds within 60 s. Only boto3's legacy retry mode retries on ModelNotReadyException, with
# exponential backoff.
CLIENT = Config(read_timeout=70, retries={"mode": "legacy", "max_attempts": 5})


def main() -> None:
    options = arguments()
    with command_line.errors_in_one_line(explained):
        body, content_type = payload(options)
        answer = invoke(
            boto3.client("sagemaker-runtime", config=CLIENT), options, body, content_type
        )
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("endpoint", help="name of the endpoint")
    option("model", metavar="TARGET_MODEL", help="key of the model below the endpoint's prefix")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="request body as plain text")
    source.add_argument("--json", type=valid_json, help="request body as JSON")
    source.add_argument("--file", type=Path, help="file with the request body; - reads stdin")
    option(
        "--content-type",
        help="default: text/plain for --text, application/json for --json, by file name for --file",
    )
    option(
        "--accept",
        default="application/json",
        help="media type of the response (default: %(default)s)",
    )
    option("--variant", help="TargetVariant (default: chosen by the weights of the variants)")
    option("--attributes", help="value of the X-Amzn-SageMaker-Custom-Attributes header")
    option(
        "--wait",
        type=float,
        default=600,
        help="time limit for loading the model, in seconds (default: %(default)s)",
    )
    return parser.parse_args()


def valid_json(text: str) -> str:
    json.loads(text)
    return text


def payload(options: argparse.Namespace) -> tuple[bytes, str]:
    if options.json is not None:
        return options.json.encode(), options.content_type or "application/json"
    if options.text is not None:
        return options.text.encode(), options.content_type or "text/plain"
    guess, _ = mimetypes.guess_type(options.file.name)
    body = sys.stdin.buffer.read() if str(options.file) == "-" else options.file.read_bytes()
    return body, options.content_type or guess or "application/octet-stream"


def invoke(client: Any, options: argparse.Namespace, body: bytes, content_type: str) -> bytes:
    request = {
        "EndpointName": options.endpoint,
        "TargetModel": options.model,
        "TargetVariant": options.variant,
        "CustomAttributes": options.attributes,
        "ContentType": content_type,
        "Accept": options.accept,
        "Body": body,
    }
    request = {name: value for name, value in request.items() if value is not None}
    began = time.monotonic()
    while True:
        try:
            response = client.invoke_endpoint(**request)
            break
        except client.exceptions.ModelNotReadyException:
            waited = time.monotonic() - began
            print(f"{options.model} is being loaded ({waited:.0f} s)", file=sys.stderr, flush=True)
            if waited > options.wait:
                raise
    report(response, time.monotonic() - began)
    return bytes(response["Body"].read())


def report(response: dict[str, Any], seconds: float) -> None:
    print(
        f"variant={response.get('InvokedProductionVariant')} {seconds * 1e3:,.0f} ms "
        f"{response.get('ContentType')} attributes={response.get('CustomAttributes', '')}",
        file=sys.stderr,
    )


def explained(error: Exception) -> str:
    if not isinstance(error, ClientError):
        return str(error)
    response = error.response
    if response["Error"]["Code"] != "ModelError":
        return str(error)
    status, message = response.get("OriginalStatusCode"), response.get("OriginalMessage")
    return f"the model answered {status}: {message} | logs: {response.get('LogStreamArn')}"


if __name__ == "__main__":
    main()
