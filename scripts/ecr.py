"""python scripts/ecr.py repository mme

Prints the URI of a repository in ECR, which it creates when it is missing: tags that do not move, a scan
of what is pushed. `tags NAME` prints the tags that are taken, `password` what docker login takes for the
user AWS. build_and_push.sh asks for the three; the AWS CLI is not needed.
"""

import argparse
import base64
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    options = arguments()
    try:
        for line in options.answer(options):
            print(line)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"ecr.py: {error}{ADVICE.get(type(error).__name__, '')}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for answer in (repository, tags):
        command = commands.add_parser(answer.__name__)
        command.add_argument("name", help="of the repository")
        command.set_defaults(answer=answer)
    commands.add_parser("password").set_defaults(answer=password)
    return parser.parse_args()


def repository(options: argparse.Namespace) -> list[str]:
    ecr = boto3.client("ecr")
    try:
        (found,) = ecr.describe_repositories(repositoryNames=[options.name])["repositories"]
    except ecr.exceptions.RepositoryNotFoundException:
        found = ecr.create_repository(
            repositoryName=options.name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
        )["repository"]
    return [found["repositoryUri"]]


def tags(options: argparse.Namespace) -> list[str]:
    pages = boto3.client("ecr").get_paginator("list_images")
    tagged = pages.paginate(repositoryName=options.name, filter={"tagStatus": "TAGGED"})
    return [image["imageTag"] for page in tagged for image in page["imageIds"]]


def password(_: argparse.Namespace) -> list[str]:
    (entry,) = boto3.client("ecr").get_authorization_token()["authorizationData"]
    return [base64.b64decode(entry["authorizationToken"]).decode().removeprefix("AWS:")]


ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


if __name__ == "__main__":
    main()
