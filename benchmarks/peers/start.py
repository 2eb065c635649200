"""python start.py hugging-face|pipelines: starts multi-model-server as a SageMaker image does.

hugging-face: with sagemaker-huggingface-inference-toolkit. pipelines: with sagemaker-inference and
pipeline_service.py. All files are written below TMPDIR, so that several servers can run on one machine.
"""

import os
import sys
from pathlib import Path

scratch = Path(os.environ["TMPDIR"])
os.chdir(scratch)  # its logs
os.environ["TEMP"] = str(scratch)  # the sockets of its workers
# The server starts `multi-model-server` and its workers by name
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
CONFIG = str(scratch / "mms.properties")

# Both read the environment when they are imported
from sagemaker_inference import model_server  # noqa: E402

model_server.MMS_CONFIG_FILE = CONFIG
if sys.argv[1] == "hugging-face":
    from sagemaker_huggingface_inference_toolkit import handler_service, mms_model_server

    mms_model_server.MMS_CONFIG_FILE = CONFIG
    mms_model_server.start_model_server(handler_service=handler_service.__name__)
else:
    service = Path(__file__).with_name("pipeline_service.py")
    model_server.start_model_server(handler_service=f"{service}:handle")
