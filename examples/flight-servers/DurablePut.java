import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightServer;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.NoOpFlightProducer;
import org.apache.arrow.flight.PutResult;
import org.apache.arrow.flight.Result;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

/** A Flight server that keeps what it is sent, and answers as specs/flight-ack.md says. */
public final class DurablePut extends NoOpFlightProducer {
  record Progress(long epoch, long sequence, long through, long opening) {} // opening 0: none

  private final ObjectMapper json = new ObjectMapper();
  private final Map<String, Progress> producers = new HashMap<>();
  private final BufferAllocator allocator;
  private long rows;

  DurablePut(BufferAllocator allocator) {
    this.allocator = allocator;
  }

  @Override
  public Runnable acceptPut(CallContext context, FlightStream stream, StreamListener<PutResult> answers) {
    return () -> {
      try {
        while (stream.next()) {
          ArrowBuf metadata = stream.getLatestMetadata();
          byte[] bytes = new byte[(int) metadata.readableBytes()];
          metadata.getBytes(metadata.readerIndex(), bytes);
          answer(take(json.readTree(bytes), stream), answers);
        }
        answers.onCompleted();
      } catch (Exception error) {
        answers.onError(error);
      }
    };
  }

  /** One part, as one transaction: the rows if they are new, and how far this producer is. */
  private synchronized Progress take(JsonNode said, FlightStream stream) {
    String producer = said.get("producer").asText();
    long epoch = said.get("epoch").asLong();
    long sequence = said.get("sequence").asLong();
    long through = said.get("through").asLong();
    Progress done = producers.getOrDefault(producer, new Progress(0, 0, 0, 0));
    if (epoch < done.epoch()) {
      throw CallStatus.CANCELLED.withDescription("a newer session of this producer is here").toRuntimeException();
    }
    boolean isNew = sequence > done.sequence() || sequence == done.sequence() && through > done.through();
    if (isNew) {
      rows += stream.getRoot().getRowCount(); // keep stream.getRoot() here
    }
    long opening = isNew && said.has("opening") ? said.get("opening").asLong() : done.opening();
    done =
        isNew
            ? new Progress(epoch, sequence, through, opening)
            : new Progress(epoch, done.sequence(), done.through(), opening);
    producers.put(producer, done);
    return done;
  }

  private void answer(Progress done, StreamListener<PutResult> answers) {
    String opening = done.opening() == 0 ? "" : ",\"opening\":" + done.opening();
    String text = "{\"v\":1,\"sequence\":" + done.sequence() + ",\"through\":" + done.through() + opening + "}";
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    try (ArrowBuf buffer = allocator.buffer(bytes.length)) {
      buffer.writeBytes(bytes);
      answers.onNext(PutResult.metadata(buffer));
    }
  }

  /** Tells how many rows there are; the tests ask. */
  @Override
  public synchronized void doAction(CallContext context, Action action, StreamListener<Result> answers) {
    answers.onNext(new Result(Long.toString(rows).getBytes(StandardCharsets.UTF_8)));
    answers.onCompleted();
  }

  public static void main(String[] arguments) throws Exception {
    int port = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 0;
    try (BufferAllocator allocator = new RootAllocator();
        FlightServer server =
            FlightServer.builder(allocator, Location.forGrpcInsecure("127.0.0.1", port), new DurablePut(allocator))
                .build()
                .start()) {
      System.out.println(server.getPort());
      server.awaitTermination();
    }
  }
}
