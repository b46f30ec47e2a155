import io
from tensorboard.compat.proto import event_pb2 as e, summary_pb2 as s
from tensorboard.summary.writer.record_writer import RecordWriter
b=io.BytesIO(); w=RecordWriter(b)
w.write(e.Event(wall_time=1.5,file_version="brain.Event:2").SerializeToString())
w.write(e.Event(wall_time=2.5,step=3,session_log=e.SessionLog(status=1)).SerializeToString())
w.write(e.Event(wall_time=2.5,step=3,summary=s.Summary(value=[s.Summary.Value(tag="loss",simple_value=0.1),s.Summary.Value(tag="lr",simple_value=1e-3)])).SerializeToString())
print(b.getvalue().hex())
