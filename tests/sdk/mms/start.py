"""python start.py: starts multi-model-server as a SageMaker container does.

It writes its files beside its models, so that they are deleted together. In an image it would use /etc.
"""

import os
import sys
from pathlib import Path

from sagemaker_inference import model_server

scratch = Path(os.environ["MME_MODEL_ROOT"]).with_name("scratch")
scratch.mkdir()
os.chdir(scratch)  # logs
os.environ["TMPDIR"] = str(scratch)  # the server's pid
os.environ["TEMP"] = str(scratch)  # the sockets of its workers
# The server starts `multi-model-server` and its workers by name
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
model_server.MMS_CONFIG_FILE = str(scratch / "mms.properties")
model_server.start_model_server(handler_service=f"{Path(__file__).with_name('service.py')}:handle")
