"""MME_FRONT=multi-model-server: starts multi-model-server with this project's handlers.

It has one process with PyTorch per model, without a memory ledger and without batches. Its settings are those
of sagemaker-inference in AWS's containers. It is started here and not by sagemaker-inference, which looks for
the server among all processes of the machine.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from container.settings import Settings, SettingsError

NAME = "multi-model-server"
SERVICE = "container.mms.mms_service:handle"


def run(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until a signal. Raises SettingsError if Java or the package is missing, or a setting is not
    supported."""
    if not settings.multi_model:
        raise SettingsError(f"MME_FRONT={NAME} requires SAGEMAKER_MULTI_MODEL=true")
    java, home = _java(environ), _home()
    with tempfile.TemporaryDirectory(prefix="mms-", ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        properties = scratch / "mms.properties"
        properties.write_text("".join(f"{line}\n" for line in _properties(settings, environ)))
        command = [*_command(java, home, scratch), "-f", str(properties)]
        _serve(command, _environment(environ, scratch), scratch)


def _java(environ: Mapping[str, str]) -> str:
    home = environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java", path=environ.get("PATH"))
    if java is None:
        raise SettingsError(f"MME_FRONT={NAME} needs Java 11 or 17, which was not found")
    return java


def _home() -> Path:
    """The directory that contains the package `mms`."""
    found = importlib.util.find_spec("mms")
    if found is None or found.origin is None:
        raise SettingsError(f"MME_FRONT={NAME} needs the package {NAME}, which is not installed")
    return Path(found.origin).parents[1]


def _properties(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The properties that sagemaker-inference 1.10 sets for multi-model endpoints, with this container's
    limits."""
    address = f"http://{settings.host}:{settings.port}"
    return [
        "model_store=/",
        "load_models=NONE",
        f"default_service_handler={SERVICE}",
        f"default_workers_per_model={environ.get('SAGEMAKER_MODEL_SERVER_WORKERS', '1')}",
        f"default_response_timeout_seconds={round(settings.request_timeout_s)}",
        f"max_request_size={settings.body_limit_nbytes}",
        f"inference_address={address}",
        f"management_address={address}",
        "decode_input_request=false",
        "async_logging=true",
    ]


def _command(java: str, home: Path, scratch: Path) -> list[str]:
    """The command of the server's launcher, which is not used because it does not stop the server on a
    signal."""
    return [
        java,
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={scratch}",  # its workers' sockets have fixed names in the temporary directory
        f"-Dlog4j.configurationFile=file://{home}/sagemaker_inference/etc/log4j2.xml",
        "-jar",
        f"{home}/mms/frontend/model-server.jar",
        "--python",
        sys.executable,
    ]


def _environment(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """Environment of the server, which starts its workers as `python` and in another directory."""
    here, programs = str(Path(__file__).parents[2]), str(Path(sys.executable).parent)
    return {
        **environ,
        "TEMP": str(scratch),
        "PYTHONPATH": _joined(here, environ.get("PYTHONPATH", "")),
        "PATH": _joined(programs, environ.get("PATH", os.defpath)),
    }


def _joined(*paths: str) -> str:
    return os.pathsep.join(path for path in paths if path)


def _serve(command: list[str], environ: dict[str, str], scratch: Path) -> None:
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        server.terminate()

    with subprocess.Popen(command, env=environ, cwd=scratch) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        status = server.wait()
    if not stopped:
        raise SettingsError(f"{NAME} ended with status {status}; see its log")
