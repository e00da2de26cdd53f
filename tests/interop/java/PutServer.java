import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightServer;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.NoOpFlightProducer;
import org.apache.arrow.flight.PutResult;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.ipc.ArrowStreamReader;
import org.apache.arrow.vector.ipc.ArrowStreamWriter;

/** A Flight server in Java that keeps the last put of each path, as an IPC stream, and gives it back. */
public final class PutServer extends NoOpFlightProducer {
  private final Map<String, byte[]> tables = new ConcurrentHashMap<>();
  private final BufferAllocator allocator;

  PutServer(BufferAllocator allocator) {
    this.allocator = allocator;
  }

  @Override
  public Runnable acceptPut(CallContext context, FlightStream stream, StreamListener<PutResult> answers) {
    return () -> {
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      try {
        try (ArrowStreamWriter writer =
            new ArrowStreamWriter(stream.getRoot(), stream.getDictionaryProvider(), bytes)) {
          writer.start();
          while (stream.next()) {
            writer.writeBatch();
            answers.onNext(PutResult.empty());
          }
          writer.end();
        }
        tables.put(String.join("/", stream.getDescriptor().getPath()), bytes.toByteArray());
        answers.onCompleted();
      } catch (Throwable error) {
        answers.onError(CallStatus.INVALID_ARGUMENT.withDescription(error.toString()).toRuntimeException());
      }
    };
  }

  @Override
  public void getStream(CallContext context, Ticket ticket, ServerStreamListener listener) {
    byte[] bytes = tables.get(new String(ticket.getBytes()));
    if (bytes == null) {
      listener.error(CallStatus.NOT_FOUND.withDescription("nothing was put there").toRuntimeException());
      return;
    }
    try (ArrowStreamReader reader = new ArrowStreamReader(new ByteArrayInputStream(bytes), allocator)) {
      // What starts is sent with the dictionaries as they are then, so the first batch has to be there.
      boolean more = reader.loadNextBatch();
      listener.start(reader.getVectorSchemaRoot(), reader);
      for (; more; more = reader.loadNextBatch()) {
        listener.putNext();
      }
      listener.completed();
    } catch (Throwable error) {
      listener.error(CallStatus.INTERNAL.withDescription(error.toString()).toRuntimeException());
    }
  }

  public static void main(String[] arguments) throws Exception {
    try (BufferAllocator allocator = new RootAllocator();
        FlightServer server =
            FlightServer.builder(allocator, Location.forGrpcInsecure("127.0.0.1", 0), new PutServer(allocator))
                .build()
                .start()) {
      System.out.println(server.getPort());
      server.awaitTermination();
    }
  }
}
