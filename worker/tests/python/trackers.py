"""What the real packages read of a run's trackers, as JSON.

    trackers.py tensorboard FOLDER        scalars by tag, as TensorBoard keeps them, and texts
    trackers.py wandb FILE                records of a .wandb file, by wandb's own messages
    trackers.py wandb-sync FOLDER         what 'wandb sync' sends to a server
    trackers.py mlflow URI EXPERIMENT     runs, with the history of every metric
"""

import gzip
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def tensorboard(folder):
    from tensorboard.backend.event_processing import event_accumulator, event_file_loader
    from tensorboard.backend.event_processing import plugin_event_accumulator
    from tensorboard.util import tensor_util

    everything = {"scalars": 0, "tensors": 0}
    reader = event_accumulator.EventAccumulator(folder, size_guidance=everything)
    reader.Reload()
    # Nothing of a file may be unreadable, but the end of one that was cut off.
    events = 0
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        events += sum(1 for _ in event_file_loader.LegacyEventFileLoader(path).Load())
    tags = reader.Tags()
    # As TensorBoard itself reads where its data server is not installed.
    plugin = plugin_event_accumulator.EventAccumulator(folder, tensor_size_guidance={"scalars": 0})
    plugin.Reload()
    for tag in tags["scalars"]:
        shown = [
            [event.step, tensor_util.make_ndarray(event.tensor_proto).item()] for event in plugin.Tensors(tag)
        ]
        assert shown == [[event.step, event.value] for event in reader.Scalars(tag)], (tag, shown)
    return {
        "scalars": {
            tag: [[event.step, event.value] for event in reader.Scalars(tag)] for tag in tags["scalars"]
        },
        "times": {tag: [event.wall_time for event in reader.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {
            tag: [event.tensor_proto.string_val[0].decode() for event in reader.Tensors(tag)]
            for tag in tags["tensors"]
        },
        "files": len(os.listdir(folder)),
        "events": events,
    }


def records(path):
    """The records of a log, each checked."""
    from wandb.proto import wandb_internal_pb2

    with open(path, "rb") as file:
        data = file.read()
    assert data[:7] == b":W&B" + struct.pack("<HB", 0xBEE1, 0), data[:7]
    at, parts = 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            assert data[at : at + left] == bytes(left)
            at += left
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        assert len(part) == length and zlib.crc32(bytes([kind]) + part) == crc, f"byte {at}"
        at += 7 + length
        parts += part
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
    assert not parts


def row_of(items):
    return {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}


def wandb(path):
    found = {"kinds": [], "numbers": [], "history": [], "run": None, "exit": None, "summary": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        found["kinds"].append(kind)
        found["numbers"].append(record.num)
        if kind == "run":
            run = record.run
            found["run"] = {
                "id": run.run_id,
                "project": run.project,
                "entity": run.entity,
                "group": run.run_group,
                "name": run.display_name,
                "tags": list(run.tags),
                "commit": run.git.commit,
                "config": row_of(run.config.update),
            }
        elif kind == "history":
            row = row_of(record.history.item)
            assert row["_step"] == record.history.step.num
            found["history"].append(row)
        elif kind == "summary":
            found["summary"] = row_of(record.summary.update)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


class Server(BaseHTTPRequestHandler):
    """As much of a W&B server as 'wandb sync' asks for."""

    protocol_version = "HTTP/1.1"
    got = None

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def answer(self):
        got, body, reply = self.got, self.body(), {}
        if self.path.startswith("/graphql"):
            asked = json.loads(body)
            query, values = asked["query"], asked.get("variables") or {}
            if "upsertBucket" in query:
                got["runs"].append(values)
                entity = {"id": "e", "name": values.get("entity") or "someone"}
                project = {"id": "p", "name": values.get("project") or "none", "entity": entity}
                bucket = {"id": "b", "name": values["name"], "displayName": values["name"], "config": "{}"}
                bucket |= {"historyLineCount": 0, "project": project}
                reply = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
            elif "createRunFiles" in query:
                port = self.server.server_port
                files = [
                    {"name": name, "uploadUrl": f"http://127.0.0.1:{port}/upload/{name}"} for name in values["files"]
                ]
                reply = {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
            elif "viewer" in query:
                viewer = {"id": "u", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
                reply = {"data": {"viewer": viewer, "serverInfo": {}}}
            else:
                reply = {"data": {"model": None}}
        elif self.path.endswith("/file_stream"):
            asked = json.loads(body)
            for name, part in (asked.get("files") or {}).items():
                lines = got["streams"].setdefault(name, {})
                for index, line in enumerate(part["content"]):
                    lines[part["offset"] + index] = json.loads(line)
            if asked.get("complete"):
                got["exit"] = asked.get("exitcode")
        elif self.path.startswith("/upload/"):
            got["files"].append(self.path.removeprefix("/upload/"))
        reply = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PUT = answer


def wandb_sync(folder):
    Server.got = {"runs": [], "streams": {}, "files": [], "exit": None}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        outcome = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", "--include-synced", folder],
            env=os.environ
            | {
                "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
                "WANDB_API_KEY": "0" * 40,
                "WANDB_DIR": home,
                "WANDB_CONFIG_DIR": home,
                "WANDB_CACHE_DIR": home,
                "HOME": home,
                "NO_PROXY": "127.0.0.1",
            },
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    got = Server.got
    got["streams"] = {name: [lines[at] for at in sorted(lines)] for name, lines in got["streams"].items()}
    got["rc"], got["said"] = outcome.returncode, outcome.stdout + outcome.stderr
    return got


def mlflow(uri, experiment):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return [
        {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {
                key: [[point.step, point.value] for point in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
        }
        for run in runs
    ]


if __name__ == "__main__":
    commands = {"tensorboard": tensorboard, "wandb": wandb, "wandb-sync": wandb_sync, "mlflow": mlflow}
    print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
