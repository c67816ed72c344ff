"""Lambda functions of image type without Docker: the image is pulled from the emulator's registry by its digest,
unpacked, and its entry point runs in there, as a user that owns nothing, on a Lambda Runtime API of its own.

As on Lambda, the image is given a name server, /tmp, a few devices, and the function's variables. The certificate authority of the
emulator is added to the list that the image brings along: AWS's own are on it already.
"""

import hashlib
import http.server
import json
import os
import pathlib
import queue
import shutil
import stat
import subprocess
import tarfile
import threading
import time

SANDBOX_USER = 993  # any that the image does not know


class Functions:
    """FOLDER holds images and logs; CREDENTIALS are the variables that each function gets for calling AWS; REGISTRY
    those that skopeo needs to reach the registry."""

    def __init__(self, folder, credentials, name_server, authority, registry):
        self.folder = pathlib.Path(folder)
        self.credentials, self.name_server, self.authority, self.registry = credentials, name_server, authority, registry
        self.running, self.lock = {}, threading.Lock()
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)

    def invoke(self, configuration, image_uri, event, request_id, seconds):
        """The function's answer, and whether it is an error."""
        name = configuration["FunctionName"]
        version = json.dumps([image_uri, configuration.get("Environment"), configuration.get("ImageConfigResponse")])
        with self.lock:
            instance = self.running.get(name)
            if instance is None or instance.version != version or not instance.alive():
                if instance:
                    instance.stop()
                instance = self.running[name] = Instance(self, version, configuration, self._pull(image_uri))
        return instance.invoke(event, request_id, seconds)

    def _pull(self, uri):
        image = self.folder / "images" / uri.rpartition(":")[2][:16]
        if image.exists():
            return image
        work = pathlib.Path(f"{image}.new")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--src-creds=AWS:any", f"docker://{uri}", f"oci:{work}/oci:image"],
            check=True, capture_output=True, env=os.environ | self.registry,
        )

        def blob(digest):
            return work / "oci/blobs" / digest.replace(":", "/")

        index = json.loads((work / "oci/index.json").read_text())
        manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
        for layer in manifest["layers"]:
            with tarfile.open(blob(layer["digest"])) as files:
                files.extractall(work / "root", filter="tar")
        shutil.copy(blob(manifest["config"]["digest"]), work / "config.json")
        root = work / "root"
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/resolv.conf").write_text(f"nameserver {self.name_server}\n")
        (root / "tmp").mkdir(exist_ok=True)
        (root / "tmp").chmod(0o1777)
        (root / "dev").mkdir(exist_ok=True)
        for name, minor in {"null": 3, "zero": 5, "random": 8, "urandom": 9}.items():
            os.mknod(root / "dev" / name, stat.S_IFCHR, os.makedev(1, minor))
            (root / "dev" / name).chmod(0o666)
        configured = json.loads((work / "config.json").read_text())["config"]
        for variable in configured.get("Env", []):
            if variable.startswith("SSL_CERT_FILE="):
                bundle = root / variable.partition("=")[2].lstrip("/")
                bundle.chmod(0o644)
                with open(bundle, "a") as file:
                    file.write("\n" + self.authority.read_text())
        work.rename(image)
        return image

    def stop(self):
        for instance in self.running.values():
            instance.stop()


class Instance:
    """One process of a function. It serves one event at a time."""

    def __init__(self, functions, version, configuration, image):
        self.version = version
        self.events, self.answers = queue.Queue(), {}
        instance = self

        class RuntimeApi(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header("Lambda-Runtime-" + name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                request_id, deadline, event = instance.events.get()
                self.reply(200, event, Aws_Request_Id=request_id, Deadline_Ms=deadline,
                           Invoked_Function_Arn=configuration["FunctionArn"])

            def do_POST(self):
                body = self.body()
                *_, request_id, kind = self.path.split("/")
                self.reply(202)
                if request_id in instance.answers:
                    instance.answers[request_id].put((body, kind == "error"))

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

        name = configuration["FunctionName"]
        in_image = json.loads((image / "config.json").read_text())["config"]
        chosen = (configuration.get("ImageConfigResponse") or {}).get("ImageConfig") or {}
        entry_point = chosen.get("EntryPoint") or in_image.get("Entrypoint") or []
        command = entry_point + (chosen.get("Command") or in_image.get("Cmd") or [])
        variables = dict(variable.split("=", 1) for variable in in_image.get("Env", []))
        variables |= functions.credentials | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.get("MemorySize", 128)),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "emulator",
        } | (configuration.get("Environment") or {}).get("Variables", {})
        root = image / "root"

        def enter():
            os.chroot(root)
            os.chdir("/")
            os.setgroups([])
            os.setgid(SANDBOX_USER)
            os.setuid(SANDBOX_USER)

        self.log = open(functions.folder / "logs" / f"{name}.log", "ab")
        self.process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=enter
        )
        executable = hashlib.sha256((root / entry_point[0].lstrip("/")).read_bytes()).hexdigest()
        print(f"{name}: runs {entry_point[0]} (sha256 {executable[:16]}) of image {image.name}", flush=True)

    def alive(self):
        return self.process.poll() is None

    def invoke(self, event, request_id, seconds):
        answer = self.answers[request_id] = queue.Queue()
        deadline = time.time() + seconds
        self.events.put((request_id, str(int(deadline * 1000)), event))
        try:
            while True:
                try:
                    return answer.get(timeout=0.1)
                except queue.Empty:
                    if not self.alive():
                        return self._error("Runtime.ExitError", f"exit status {self.process.returncode}")
                    if time.time() > deadline:
                        self.stop()
                        return self._error("Sandbox.Timedout", f"Task timed out after {seconds} seconds")
        finally:
            del self.answers[request_id]

    @staticmethod
    def _error(kind, message):
        return json.dumps({"errorType": kind, "errorMessage": message}).encode(), True

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.server.shutdown()
        self.server.server_close()
