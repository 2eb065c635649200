"""Environment variables: their values, and one line for each invalid one."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from container.environment import rows
from container.settings import Settings, SettingsError, describe
from model_handler.options import WorkerOptions

REPOSITORY = Path(__file__).parents[2]


def test_defaults() -> None:
    settings = Settings.from_environ({})
    assert settings == Settings()
    assert not settings.multi_model
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert settings.body_limit_nbytes == 32 << 20
    assert settings.drain_timeout_s == 25


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("SAGEMAKER_MULTI_MODEL", "true", "multi_model", True),
        ("SAGEMAKER_MULTI_MODEL", "True", "multi_model", True),
        ("SAGEMAKER_MULTI_MODEL", "TRUE", "multi_model", True),
        ("SAGEMAKER_MULTI_MODEL", "false", "multi_model", False),
        ("SAGEMAKER_BIND_TO_PORT", "9000", "port", 9000),
        ("MME_PORT", "9001", "port", 9001),
        ("MME_PORT", "", "port", 8080),
        ("MME_HOST", "127.0.0.1", "host", "127.0.0.1"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "25000-25999", "safe_port_range", (25000, 25999)),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "20", "log_level", logging.INFO),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "debug", "log_level", logging.DEBUG),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv", "default_accept", "text/csv"),
        ("HF_TASK", "fill-mask", "default_task", "fill-mask"),
        ("MME_MODEL_ROOT", "/a:/b", "model_roots", (Path("/a"), Path("/b"))),
        ("MME_MODEL_DIR", "/m", "model_dir", Path("/m")),
        ("MME_SCRATCH_DIR", "/s", "scratch_dir", Path("/s")),
        ("MME_DEVICE", "cuda:1", "device", "cuda:1"),
        ("MME_DTYPE", "bfloat16", "dtype", "bfloat16"),
        ("MME_DTYPE", "bf16", "dtype", "bfloat16"),
        ("MME_DEVICE_MEMORY", "512MiB", "device_memory_nbytes", 512 << 20),
        ("MME_DEVICE_MEMORY", "1.5GB", "device_memory_nbytes", 1_500_000_000),
        ("MME_DEVICE_MEMORY", "1048576", "device_memory_nbytes", 1 << 20),
        ("MME_HOST_MEMORY", "2 TiB", "host_memory_nbytes", 2 << 40),
        ("MME_EVICTION", "lru", "eviction", "lru"),
        ("MME_MATMUL_PRECISION", "high", "matmul_precision", "high"),
        ("MME_WARMUP", "false", "warmup", False),
        ("MME_REGISTERED_MEMORY", "4GiB", "registered_nbytes", 4 << 30),
        ("MME_REGISTERED_MEMORY", "0", "registered_nbytes", 0),
        ("MME_MAX_BATCH_SIZE", "1", "max_batch_size", 1),
        ("MME_MAX_QUEUE", "7", "max_queue", 7),
        ("MME_REQUEST_TIMEOUT", "0.5", "request_timeout_s", 0.5),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "30", "request_timeout_s", 30.0),
        ("MME_LOAD_TIMEOUT", "10", "load_timeout_s", 10.0),
        ("MME_UNLOAD_TIMEOUT", "10", "unload_timeout_s", 10.0),
        ("MME_MAX_BODY", "1KiB", "max_body_nbytes", 1024),
        ("MME_DRAIN_TIMEOUT", "3", "drain_timeout_s", 3.0),
    ],
)
def test_each_variable(name: str, text: str, field: str, value: object) -> None:
    assert getattr(Settings.from_environ({name: text}), field) == value


def test_the_platform_s_port_has_precedence() -> None:
    settings = Settings.from_environ({"SAGEMAKER_BIND_TO_PORT": "1", "MME_PORT": "2"})
    assert settings.port == 1


def test_mme_request_timeout_has_precedence() -> None:
    names = {"MME_REQUEST_TIMEOUT": "1", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "2"}
    assert Settings.from_environ(names).request_timeout_s == 1


def test_the_body_limit_is_never_below_the_platform_s() -> None:
    low = Settings.from_environ({"MME_MAX_BODY": "1MiB", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6"})
    high = Settings.from_environ({"MME_MAX_BODY": "8MiB", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6"})
    assert (low.body_limit_nbytes, high.body_limit_nbytes) == (6 << 20, 8 << 20)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("MME_PORT", "0", "1 to 65535"),
        ("MME_PORT", "65536", "1 to 65535"),
        ("MME_PORT", "http", "1 to 65535"),
        ("MME_PORT", "٣", "1 to 65535"),
        ("SAGEMAKER_BIND_TO_PORT", "-1", "1 to 65535"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "2-1", "lower first"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "25000", "lower first"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "loud", "DEBUG"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "51", "0 to 50"),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "a\nb", "printable"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "six", "whole number"),
        ("MME_MODEL_ROOT", "relative", "absolute"),
        ("MME_MODEL_ROOT", ":", "absolute"),
        ("MME_MODEL_DIR", "x", "absolute"),
        ("MME_DEVICE", "gpu", "cuda:<number>"),
        ("MME_DEVICE", "cuda:", "cuda:<number>"),
        ("MME_DTYPE", "float8", "bfloat16"),
        ("MME_DEVICE_MEMORY", "0", "512MiB"),
        ("MME_DEVICE_MEMORY", "-1GB", "512MiB"),
        ("MME_DEVICE_MEMORY", "1e9", "512MiB"),
        ("MME_DEVICE_MEMORY", "1 GiBs", "512MiB"),
        ("MME_DEVICE_MEMORY", "0.1", "512MiB"),
        ("MME_DEVICE_MEMORY", "nan", "512MiB"),
        ("MME_HOST_MEMORY", "lots", "512MiB"),
        ("MME_MATMUL_PRECISION", "tf32", "highest, high, medium"),
        ("MME_WARMUP", "1", "true or false"),
        ("MME_REGISTERED_MEMORY", "off", "512MiB"),
        ("MME_MAX_BATCH_SIZE", "0", "1 to 4096"),
        ("MME_MAX_QUEUE", "1.5", "whole number"),
        ("SAGEMAKER_MULTI_MODEL", "1", "true or false"),
        ("HF_TASK", "text-clasification", "text-classification"),
        ("MME_REQUEST_TIMEOUT", "0", "more than 0"),
        ("MME_REQUEST_TIMEOUT", "inf", "more than 0"),
        ("MME_DRAIN_TIMEOUT", "1h", "seconds"),
    ],
)
def test_a_wrong_value_is_named(name: str, text: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({name: text})
    message = str(caught.value)
    assert message.startswith(f"{name}={text!r}")
    assert allowed in message
    assert "\n" not in message


def test_an_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"MME_DEVICE_MEM='1GiB' is unknown.*MME_DEVICE_MEMORY"):
        Settings.from_environ({"MME_DEVICE_MEM": "1GiB"})
    with pytest.raises(SettingsError, match=r"did you mean MME_\w+"):
        Settings.from_environ({"MME_": "x"})


def test_the_options_of_the_engine() -> None:
    environ = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MME_MODEL_ROOT": "/a:/b",
        "MME_DEVICE": "cpu",
        "MME_DEVICE_MEMORY": "1GiB",
        "MME_MAX_QUEUE": "3",
        "MME_MATMUL_PRECISION": "high",
        "MME_WARMUP": "false",
        "MME_REGISTERED_MEMORY": "1GiB",
        "HF_TASK": "fill-mask",
    }
    options = Settings.from_environ(environ).engine
    assert options.model_roots == (Path("/a"), Path("/b"))
    assert (options.device, options.device_memory_nbytes) == ("cpu", 1 << 30)
    assert options.worker == WorkerOptions(False, "high", 1 << 30)
    assert (options.max_queue, options.default_task) == (3, "fill-mask")


def test_without_the_platform_models_come_from_the_model_directory() -> None:
    settings = Settings.from_environ({"MME_MODEL_DIR": "/m", "MME_SCRATCH_DIR": "/s"})
    assert settings.engine.model_roots == (Path("/m"), Path("/s"))


def test_help_names_every_variable() -> None:
    text = describe()
    for name in ("MME_DEVICE_MEMORY", "SAGEMAKER_BIND_TO_PORT", "HF_TASK", "MME_DRAIN_TIMEOUT"):
        assert name in text


def test_the_documentation_has_the_same_table() -> None:
    text = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    table = re.sub(r" \(\[[^]]*\]\([^)]*\)\)", "", text).replace("`", "")  # without links
    for names, meaning, default in rows(Settings):
        assert f"| {', '.join(names)} | {meaning} | {default} |" in table


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "container", *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_command_line() -> None:
    """Invalid settings and commands end the process with one line and no traceback."""
    refused = run("serve", MME_PRT="1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "MME_PRT='1' is unknown: did you mean MME_PORT?\n"
    helped = run("--help")
    assert helped.returncode == 0
    assert "MME_MODEL_ROOT" in helped.stdout
    assert run("train").returncode == 2


def test_the_front_process_imports_nothing_heavy() -> None:
    code = (
        "import sys, container.entrypoint;"
        "print({'torch', 'transformers', 'numpy', 'safetensors', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_options_of_the_workers() -> None:
    environ = {
        "MME_WARMUP": "false",
        "MME_MATMUL_PRECISION": "high",
        "MME_REGISTERED_MEMORY": "4GiB",
        "MME_WORKERS": "3",
    }
    options = Settings.from_environ(environ).engine
    assert options.workers == 3
    assert not options.worker.warmup
    assert options.worker.matmul_precision == "high"
    assert options.worker.registered_nbytes == 4 << 30
