"""MME_ISOLATE_USERS: what a model's code can reach, in the real processes. Requires root."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from container.settings import Settings
from model_handler.engine.factory import create_engine
from tests import artifacts
from tests.container.conftest import Running
from tests.contract.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="requires root")
UID = 23000
HANDLER = """
import json
def model_fn(model_dir, context):
    return model_dir
def transform_fn(model, body, content_type, accept, context):
    scope = {"model_dir": model}
    try:
        exec(json.loads(body), scope)
        return json.dumps(scope["result"])
    except OSError as error:
        return json.dumps(type(error).__name__)
"""


def write(path: Path) -> Path:
    (path / "code").mkdir(parents=True)
    (path / "code/inference.py").write_text(HANDLER)
    (path / "secret").write_text(path.name)
    (path / "secret").chmod(0o600)
    return path


def listing(root: Path) -> dict[str, tuple[int, int, int]]:
    paths = [root, *root.rglob("*")]
    states = {str(path): path.lstat() for path in paths}
    return {name: (s.st_uid, s.st_gid, stat.S_IMODE(s.st_mode)) for name, s in states.items()}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Not below pytest's directory, which only root may enter."""
    path = Path(tempfile.mkdtemp(prefix="models-"))
    path.chmod(0o755)
    for name in ("one", "two", "idle"):
        write(path / name)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def running(root: Path) -> Iterator[Running]:
    environ = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MME_MODEL_ROOT": str(root),
        "MME_ISOLATE_USERS": "true",
        "MME_ISOLATE_USER_RANGE": f"{UID}-{UID + 1}",
        "MME_DEVICE": "cpu",
        "MME_WORKERS": "1",
        "MME_DEVICE_MEMORY": "1GiB",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("AWS_SECRET_ACCESS_KEY", "key"), ("DATABASE_PASSWORD", "word")):
            patch.setenv(name, value)
        engine = create_engine(Settings.from_environ(environ).engine)
        server = Running(cast("Any", engine), environ)
        server.http.timeout = 60
        server.start()
        yield server
        server.stop()


@pytest.fixture
def pair(running: Running, root: Path) -> Iterator[Running]:
    before = listing(root)
    for name in ("one", "two"):
        response = running.post("/models", model_name=name, url=str(root / name))
        assert response.status_code == 200, response.text
    yield running
    for name in ("one", "two"):
        assert running.http.delete(f"/models/{name}").status_code == 200
    after = listing(root)
    assert {name: after[name] for name in before if name != str(root)} == {
        name: before[name] for name in before if name != str(root)
    }
    assert not users_processes()


def users_processes() -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if any(f"\t{uid}\t" in text for uid in (UID, UID + 1)):
            found.append(int(status.parent.name))
    return found


def ask(running: Running, code: str, model: str = "one") -> Any:
    response = running.http.post(
        f"/models/{model}/invoke",
        content=json.dumps(code),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def fixed(root: Path) -> Iterator[Path]:
    """A model on a read-only file system."""
    path = write(root / "fixed")
    (path / "secret").chmod(0o644)
    mounted = [
        subprocess.run(["mount", *options, path], check=False).returncode
        for options in (["--bind", path], ["-o", "remount,bind,ro"])
    ]
    if any(mounted):
        shutil.rmtree(path)
        pytest.skip("requires the privilege to mount")
    yield path
    subprocess.run(["umount", path], check=True)
    shutil.rmtree(path)


def test_a_model_on_a_read_only_file_system(running: Running, fixed: Path) -> None:
    response = running.post("/models", model_name="fixed", url=str(fixed))
    assert response.status_code == 200, response.text
    assert ask(running, "result = open(f'{model_dir}/secret').read()", "fixed") == "fixed"
    assert running.http.delete("/models/fixed").status_code == 200


def test_each_process_has_a_user_without_privileges(pair: Running) -> None:
    code = """
import os
status = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines())
fields = ('Groups', 'CapPrm', 'CapEff', 'CapAmb', 'NoNewPrivs')
result = [os.getresuid(), os.getresgid(), [status[f].strip() for f in fields]]
"""
    results = [ask(pair, code, model) for model in ("one", "two")]
    assert sorted(result[0][0] for result in results) == [UID, UID + 1]
    for uids, gids, status in results:
        assert len({*uids, *gids}) == 1
        assert status == [str(uids[0]), "0" * 16, "0" * 16, "0" * 16, "1"]
    assert ask(pair, "import os\nos.setuid(0)\nresult = 1") == "PermissionError"


def test_it_reads_its_own_files_and_no_others(pair: Running, root: Path) -> None:
    assert ask(pair, "result = open(model_dir + '/secret').read()") == "one"
    for other in (root / "two/secret", root / "two/code/inference.py"):
        assert ask(pair, f"result = open({str(other)!r}).read()") == "PermissionError"
    assert ask(pair, f"import os\nresult = os.listdir({str(root)!r})") == "PermissionError"
    write_own = "open(model_dir + '/code/inference.py', 'w').write('')\nresult = 1"
    assert ask(pair, write_own) == "PermissionError"
    assert ask(pair, "import os, signal\nos.kill(os.getppid(), 0)\nresult = 1") == "PermissionError"


def test_its_directory_for_temporary_files_is_its_own(pair: Running) -> None:
    code = """
import os, tempfile
with tempfile.NamedTemporaryFile(delete=False) as file: pass
result = [os.environ['HOME'], file.name, os.stat(file.name).st_uid, os.getcwd()]
"""
    home, name, uid, here = ask(pair, code)
    assert (Path(name).parent, here) == (Path(home), home)
    assert uid in (UID, UID + 1)
    stranger = ask(pair, f"import os\nresult = os.listdir({home!r})", "two")
    assert stranger == "PermissionError"


def test_the_environment_has_no_secrets(pair: Running) -> None:
    own = ask(pair, "import os\nresult = dict(os.environ)")
    kernels = ask(pair, "result = open('/proc/self/environ').read()")
    for secret in ("AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD"):
        assert secret in os.environ
        assert secret not in own
        assert secret not in kernels
    assert "PATH" in own
    assert ask(pair, f"result = open('/proc/{os.getpid()}/environ').read()") == "PermissionError"


REQUEST = """
import socket
client = socket.create_connection(('127.0.0.1', {port}))
client.sendall(b'{method} {path} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n')
{after}
"""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/models/two"),
        ("POST", "/models/two/invoke"),
        ("GET", "/models"),
        ("GET", "/ping"),
    ],
)
def test_the_containers_port_is_closed_to_it(pair: Running, method: str, path: str) -> None:
    answer = "result = client.recv(12).decode()"
    code = REQUEST.format(port=pair.port, method=method, path=path, after=answer)
    assert ask(pair, code) == "HTTP/1.1 403"


def test_a_connection_that_is_closed_at_once_is_refused_too(pair: Running) -> None:
    after = "client.close()\nresult = 1"
    code = REQUEST.format(port=pair.port, method="DELETE", path="/models/two", after=after)
    for _ in range(20):
        assert ask(pair, code) == 1
    assert pair.http.get("/models/two").status_code == 200


def test_users_are_used_again_and_all_of_them_end(running: Running, root: Path) -> None:
    """Also processes that the code has moved to another session."""
    fork = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    os._exit(0)
result = os.getuid()
"""
    before = listing(root / "one")
    for _ in range(4):
        assert running.post("/models", model_name="m", url=str(root / "one")).status_code == 200
        assert ask(running, fork, "m") in (UID, UID + 1)
        assert running.http.delete("/models/m").status_code == 200
        assert not users_processes()
        assert listing(root / "one") == before


def test_without_a_free_user_a_load_is_507(pair: Running, root: Path) -> None:
    response = pair.post("/models", model_name="three", url=str(root / "idle"))
    assert response.status_code == 507
    assert "MME_ISOLATE_USER_RANGE" in response.json()["message"]


def test_a_failed_load_gives_everything_back(running: Running, root: Path) -> None:
    broken = write(root / "broken")
    (broken / "code/inference.py").write_text("def model_fn(model_dir): raise ValueError('x')\n")
    before = listing(broken)
    for _ in range(3):
        response = running.post("/models", model_name="broken", url=str(broken))
        assert response.status_code == 500
        assert listing(broken) == before
    assert not users_processes()


def test_a_process_that_died_gets_its_files_again(pair: Running) -> None:
    status = pair.http.post("/models/one/invoke", content=json.dumps("import os\nos._exit(3)"))
    assert status.status_code == 500
    for _ in range(100):
        response = pair.http.post(
            "/models/one/invoke",
            content=json.dumps("result = open(model_dir + '/secret').read()"),
            headers={"content-type": "application/json"},
        )
        if response.status_code == 200:
            break
    assert response.json() == "one"


def test_a_model_without_code_in_a_process_of_its_own(running: Running, root: Path) -> None:
    """All its threads have the user, which can read its files, also after its process was replaced."""
    directory = artifacts.bert_classifier(root / "plain")
    (directory / "serving.properties").write_text("option.isolation=own\n")
    for file in directory.iterdir():
        file.chmod(0o600)
    before = listing(directory)
    assert running.post("/models", model_name="plain", url=str(directory)).status_code == 200
    (pid,) = users_processes()
    assert Path(f"/proc/{pid}/comm").read_text() == "mme-worker\n"
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        pairs = (line.partition(":") for line in task.read_text().splitlines())
        status = {name: values.split() for name, _, values in pairs}
        ids = {*status["Uid"], *status["Gid"], *status["Groups"]}
        assert ids in ({str(UID)}, {str(UID + 1)})
        assert {*status["CapPrm"], *status["CapEff"]} == {"0" * 16}
        assert status["NoNewPrivs"] == ["1"]
    assert question(running, "plain") == 200
    os.kill(pid, signal.SIGKILL)
    until(lambda: question(running, "plain") == 200)
    assert users_processes() not in ([], [pid])
    assert running.http.delete("/models/plain").status_code == 200
    assert not users_processes()
    assert listing(directory) == before


def question(running: Running, model: str) -> int:
    headers = {"content-type": "application/json"}
    body = json.dumps({"inputs": "hello"})
    return running.http.post(f"/models/{model}/invoke", content=body, headers=headers).status_code
