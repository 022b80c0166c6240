package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.protobuf.ByteString;
import java.io.IOException;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

class OptionsTest {
  private static final String TARGET = "127.0.0.1:1";

  private static String fieldOf(PolicyClient.Builder builder) {
    return assertThrows(InvalidRequestException.class, builder::build).field();
  }

  @Test
  void aTokenIsPrintableAscii() {
    for (String token : List.of("", "two\nlines", "sécret", " before", "after ", "\t", "\u007f")) {
      var builder = PolicyClient.builder(TARGET).token(token);
      var error = assertThrows(InvalidRequestException.class, builder::build, token);
      assertEquals("token", error.field());
      assertFalse(
          !token.isBlank() && error.getMessage().contains(token.strip()),
          "the message contains the token");
    }
    PolicyClient.builder(TARGET).token("two words~!").build().close();
  }

  @Test
  void aTokenDoesNotTravelUnencrypted() {
    assertEquals("token", fieldOf(PolicyClient.builder("robot.example:50051").token("secret")));
  }

  @Test
  void aVersionWithALabelIsRefused() {
    assertEquals("policy", fieldOf(PolicyClient.builder(TARGET).version(3).label("stable")));
    assertEquals("policy", fieldOf(PolicyClient.builder(TARGET).label("stable").version(3)));
    PolicyClient.builder(TARGET).version(3).build().close();
    PolicyClient.builder(TARGET).label("stable").build().close();
  }

  @Test
  void whatASessionHasNoUseForIsRefused() throws IOException {
    Tensor mask = Tensor.of(new boolean[] {true, true});
    Simulator simulator = new Simulator(Spaces.box(-1, 1, 4), Spaces.discrete(2), 1, "test");
    try (var server = new ScriptedServer();
        var client = PolicyClient.connect(server.target())) {
      for (ActOptions options :
          List.of(
              ActOptions.sample().withActionMask(mask),
              ActOptions.greedy().withState(ByteString.copyFromUtf8("a")))) {
        String field = options.mask == null ? "state" : "action_mask";
        var one = assertThrows(InvalidRequestException.class, () -> client.play(options));
        assertEquals(field, one.field());
        var other =
            assertThrows(InvalidRequestException.class, () -> client.play(simulator, options));
        assertEquals(field, other.field());
        client.act(Tensor.of(new float[4]), options);
      }
    }
  }

  @Test
  void anOutputMayBeNamedTwice() {
    var options = ActOptions.sample().withOutputs(Output.ENTROPY, Output.ENTROPY);
    assertEquals(2, options.outputsOr(Set.of()).size()); // with the action
  }
}
