"""AWS's names, on this machine: what makes the emulator reachable as AWS is, by name and over TLS.

The tools (Terraform, the AWS CLI, podman, curl) go through a proxy, which sends AWS's names to the emulator and leaves
all others alone. The functions, which know of no proxy, ask a name server and get the same address.
"""

import asyncio
import pathlib
import random
import socket
import ssl
import struct
import subprocess
import threading

SUFFIX = ".amazonaws.com"


class Network:
    """AWS_PORT is where the emulator listens on 127.0.0.1; FOLDER is for certificates."""

    def __init__(self, folder, region, aws_port):
        self.folder = pathlib.Path(folder)
        self.aws_port = aws_port
        self.authority, self.certificate, self.key = self._certificates(region)
        self.asked = set()  # names that were looked up
        self.address, https, dns = self._listen()
        proxy = socket.create_server(("127.0.0.1", 0))
        self.proxy_port = proxy.getsockname()[1]
        threading.Thread(target=self._answer_names, args=(dns,), daemon=True).start()
        threading.Thread(target=asyncio.run, args=(self._serve(https, proxy),), daemon=True).start()

    def _certificates(self, region):
        """An authority of this run's own, and a certificate for the names of AWS in this region."""
        names = ["*", f"*.{region}"] + [f"*.{part}.{region}" for part in ("execute-api", "ecr", "dkr.ecr", "ddb", "s3")]
        names.append("*.queue")  # SQS, as version 1 of the AWS CLI knows it
        (self.folder / "leaf.ext").write_text(
            "subjectAltName=" + ",".join(f"DNS:{name}{SUFFIX}" for name in names)
            + "\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n"
        )
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for command in (
            ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=emulator"],
            ["req", *key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=aws"],
            ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
             "-out", "leaf.pem", "-days", "2", "-extfile", "leaf.ext"],
        ):
            subprocess.run(["openssl", *command], cwd=self.folder, check=True, capture_output=True)
        return self.folder / "ca.pem", self.folder / "leaf.pem", self.folder / "leaf.key"

    def _listen(self):
        """A loopback address on which both ports that can't be chosen, HTTPS and DNS, are free."""
        for _ in range(100):
            address = f"127.{random.randint(16, 250)}.{random.randint(0, 250)}.{random.randint(1, 250)}"
            try:
                https = socket.create_server((address, 443))
                dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                dns.bind((address, 53))
                return address, https, dns
            except OSError as error:
                last = error
        raise last

    def _answer_names(self, server):
        while True:
            query, client = server.recvfrom(2048)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, (kind,) = ".".join(labels).lower(), struct.unpack("!H", query[at + 1:at + 3])
            self.asked.add(name)
            known = name.endswith(SUFFIX)
            answer = b""
            if known and kind == 1:  # A
                answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(self.address)
            flags = 0x8180 if known else 0x8183  # no such name
            header = query[:2] + struct.pack("!HHHHH", flags, 1, 1 if answer else 0, 0, 0)
            server.sendto(header + query[12:at + 5] + answer, client)

    async def _serve(self, https, proxy):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        aws = await asyncio.start_server(self._to_aws, sock=https, ssl=context)
        connect = await asyncio.start_server(self._connect, sock=proxy)
        async with aws, connect:
            await asyncio.gather(aws.serve_forever(), connect.serve_forever())

    async def _to_aws(self, reader, writer):
        await self._join(reader, writer, "127.0.0.1", self.aws_port)

    async def _connect(self, reader, writer):
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).split()
            host, _, port = request[1].decode().rpartition(":")
        except (asyncio.IncompleteReadError, IndexError):
            writer.close()
            return
        if request[0] != b"CONNECT":
            writer.write(b"HTTP/1.1 405 only CONNECT\r\n\r\n")
            writer.close()
            return
        if host.endswith(SUFFIX):
            host, port = self.address, 443
        await self._join(reader, writer, host, int(port), greeting=b"HTTP/1.1 200 connected\r\n\r\n")

    async def _join(self, reader, writer, host, port, greeting=b""):
        try:
            there, out = await asyncio.open_connection(host, port)
            writer.write(greeting)
            await asyncio.gather(self._pump(reader, out), self._pump(there, writer))
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _pump(reader, writer):
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()
