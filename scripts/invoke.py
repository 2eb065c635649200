"""python scripts/invoke.py many-models sentiment.tar.gz --text "I love this little camera."

Sends one request to one model and prints the answer on stdout, the rest on stderr. Instead of --text:
--json '{"inputs": …, "parameters": {…}}', or --file photo.jpg (its content type is guessed; -  reads
stdin). A model that is still being loaded after SageMaker's 60 s is asked again until --wait is over.
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
from botocore.exceptions import BotoCoreError, ClientError

# SageMaker itself answers within 60 s. Only the legacy mode of retries knows ModelNotReadyException,
# and waits longer from one attempt to the next.
CLIENT = Config(read_timeout=70, retries={"mode": "legacy", "max_attempts": 5})


def main() -> None:
    options = arguments()
    try:
        body, content_type = payload(options)
        answer = invoke(
            boto3.client("sagemaker-runtime", config=CLIENT), options, body, content_type
        )
    except OSError as error:
        sys.exit(f"invoke.py: {error}")
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"invoke.py: {explained(error)}")
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint")
    parser.add_argument("model", metavar="TARGET_MODEL", help="key below the endpoint's prefix")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text")
    source.add_argument("--json", type=valid_json)
    source.add_argument("--file", type=Path)
    parser.add_argument("--content-type", help="default: of the file's name, else of the option")
    parser.add_argument("--accept", default="application/json")
    parser.add_argument("--variant", help="TargetVariant; default: by the variants' weights")
    parser.add_argument("--attributes", help="X-Amzn-SageMaker-Custom-Attributes")
    parser.add_argument("--wait", type=float, default=600, help="s to wait for a load; %(default)s")
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
        return f"{error}{ADVICE.get(type(error).__name__, '')}"
    response = error.response
    if response["Error"]["Code"] != "ModelError":
        return str(error)
    status, message = response.get("OriginalStatusCode"), response.get("OriginalMessage")
    return f"the model answered {status}: {message} | logs: {response.get('LogStreamArn')}"


ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


if __name__ == "__main__":
    main()
