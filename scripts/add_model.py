"""python scripts/add_model.py sentiment.tar.gz s3://my-bucket/models/

Uploads a model archive to the S3 prefix of a running multi-model endpoint. The second argument is the
prefix or the endpoint's name. The model can be invoked immediately, as TargetModel, without a new
deployment. An existing key is never overwritten, since instances may keep the old model in memory or on
disk: choose a new name with --name, such as sentiment-v2.tar.gz.
"""

import argparse
import tarfile
from pathlib import Path, PurePosixPath

import command_line
from command_line import ScriptError


def main() -> None:
    options = arguments()
    with command_line.errors_in_one_line():
        check(options.archive)
        name = options.name or options.archive.name
        command_line.upload(
            options.archive, prefix(options.where), name, otherwise="a new name with --name"
        )
    print(f"TargetModel={name}")


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("archive", type=Path, help="the .tar.gz file to upload")
    parser.add_argument(
        "where",
        metavar="S3_PREFIX|ENDPOINT",
        help="where to upload: s3://bucket/prefix/, or the name of an endpoint, whose prefix is used",
    )
    parser.add_argument(
        "--name",
        help="key below the prefix, e.g. team/ner-v2.tar.gz (default: the archive's file name)",
    )
    return parser.parse_args()


def check(archive: Path) -> None:
    """Raises ScriptError if SageMaker could not extract the archive; package_model.py checks more."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = tar.getmembers()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ScriptError(f"{archive} is not a readable tar.gz: {error}") from error
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise ScriptError(
                f"{archive}: {member.name} is not a plain file below the archive's root"
            )
    depths = [len(PurePosixPath(member.name).parts) for member in members if is_config(member)]
    if depths and min(depths) > 2:
        raise ScriptError(
            f"{archive} has its config.json too deep: pack the model with package_model.py"
        )
    if not any(member.isfile() for member in members):
        raise ScriptError(f"{archive} has no files: pack a model with package_model.py")


def is_config(member: tarfile.TarInfo) -> bool:
    return PurePosixPath(member.name).name == "config.json"


def prefix(where: str) -> str:
    """The given S3 prefix, or the prefix of the endpoint's multi-model containers."""
    if where.startswith("s3://"):
        return command_line.with_slash(where)
    prefixes = command_line.multi_model_prefixes(where)
    if len(prefixes) != 1:
        found = ", ".join(prefixes) or "none"
        raise ScriptError(f"{where} should have one multi-model prefix, give one of: {found}")
    return prefixes[0]


if __name__ == "__main__":
    main()
