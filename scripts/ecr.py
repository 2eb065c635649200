"""python scripts/ecr.py repository mme

Three commands for build_and_push.sh, which therefore does not need the AWS CLI:
    repository NAME  prints the URI of an ECR repository. Creates it if it does not exist, with immutable
                     tags and a vulnerability scan of every push.
    tags NAME        prints the existing tags of the repository.
    password         prints the password for `docker login --username AWS`.
"""

import argparse
import base64

import boto3

import command_line


def main() -> None:
    options = arguments()
    with command_line.errors_in_one_line():
        for line in options.answer(options):
            print(line)


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    commands = parser.add_subparsers(required=True)
    for answer in (repository, tags):
        command = commands.add_parser(answer.__name__)
        command.add_argument("name", help="name of the repository")
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


if __name__ == "__main__":
    main()
