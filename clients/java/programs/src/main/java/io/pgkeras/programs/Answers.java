package io.pgkeras.programs;

import static io.pgkeras.programs.Checks.ROW;
import static io.pgkeras.programs.Checks.check;
import static io.pgkeras.programs.Checks.equal;
import static io.pgkeras.programs.Checks.floats;
import static io.pgkeras.programs.Checks.longs;
import static io.pgkeras.programs.Checks.near;
import static io.pgkeras.programs.Checks.observation;
import static io.pgkeras.programs.Checks.sumsToOne;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.pgkeras.client.ActOptions;
import io.pgkeras.client.Actions;
import io.pgkeras.client.Tensor;
import io.pgkeras.v1.BoxSpace;
import java.util.Arrays;

/** The scenarios of single calls. */
record Answers(Conformance program) {
  void describe() {
    var info = program.client().describe();
    var policy = info.policy();
    var limits = info.limits();
    JsonObject expected = program.vectors().getAsJsonObject("policy");
    BoxSpace box = policy.getSpec().getObservationSpace().getBox();
    JsonObject got = new JsonObject();
    got.addProperty("name", policy.getName());
    got.addProperty("version", policy.getVersion());
    got.addProperty("spec_hash", policy.getSpecHash());
    got.add("observation_shape", new Gson().toJsonTree(box.getShapeList()));
    got.addProperty(
        "observation_dtype", box.getDtype().name().replace("DATA_TYPE_", "").toLowerCase());
    got.addProperty("actions", policy.getSpec().getActionSpace().getDiscrete().getN());
    got.addProperty(
        "distribution",
        policy.getSpec().getDistribution().name().replace("DISTRIBUTION_KIND_", "").toLowerCase());
    check(got.equals(expected), got + ", not " + expected);
    check(limits.getMaxBatchSize() > 0, "no max_batch_size");
    check(limits.getMaxReceiveMessageBytes() > 0, "no max_receive_message_bytes");
    check(limits.getMaxSendMessageBytes() > 0, "no max_send_message_bytes");
    check(
        program.client().policies().stream()
            .anyMatch(other -> other.getName().equals("cartpole-v1")),
        "not in the list of policies");
  }

  void single() {
    Actions answer = program.client().act(ROW, ActOptions.greedy());
    Tensor probabilities = answer.distribution().parameters().get("probabilities");
    equal(answer.action().shape());
    equal(answer.logProb().shape());
    equal(answer.entropy().shape());
    equal(probabilities.shape(), 2);
    sumsToOne(probabilities);
    check(
        answer.policy().equals("cartpole-v1") && answer.version() == 1,
        answer.policy() + " " + answer.version());
  }

  void batch() {
    float[] rows = new float[256];
    for (int i = 0; i < rows.length; i++) {
      rows[i] = (i - 128) / 256f;
    }
    Actions answer = program.client().act(Tensor.of(rows, 64, 4), ActOptions.greedy());
    equal(answer.action().shape(), 64);
    equal(answer.logProb().shape(), 64);
    equal(answer.entropy().shape(), 64);
    equal(answer.distribution().parameters().get("probabilities").shape(), 64, 2);
    for (int i : new int[] {0, 31, 63}) {
      Tensor row = Tensor.of(Arrays.copyOfRange(rows, 4 * i, 4 * i + 4));
      Actions alone = program.client().act(row, ActOptions.greedy());
      equal(alone.action().longs(), answer.action().longs()[i]);
      near(alone.logProb().floats(), answer.logProb().floats()[i]);
    }
  }

  void seededCalls() {
    for (JsonElement element : program.vectors().getAsJsonArray("calls")) {
      JsonObject vector = element.getAsJsonObject();
      boolean greedy = vector.get("mode").getAsString().equals("greedy");
      ActOptions options = greedy ? ActOptions.greedy() : ActOptions.sample();
      if (!vector.get("seed").isJsonNull()) {
        options = options.withSeed(Long.parseUnsignedLong(vector.get("seed").getAsString()));
      }
      for (int i = 0; i < 2; i++) {
        Actions answer = program.client().act(observation(vector), options);
        equal(answer.action().longs(), longs(vector.get("action")));
        near(answer.logProb().floats(), floats(vector.get("log_prob")));
        near(answer.entropy().floats(), floats(vector.get("entropy")));
        near(
            answer.distribution().parameters().get("probabilities").floats(),
            floats(vector.get("probabilities")));
      }
    }
  }

  void image() {
    try (var client = program.fixture("image")) {
      byte[] pixels = new byte[8 << 20];
      for (int i = 0; i < pixels.length; i++) {
        pixels[i] = (byte) (i % 251);
      }
      Actions answer = client.act(Tensor.ofUint8(pixels, 1024, 2048, 4));
      long action = answer.action().longs()[0];
      check(action >= 0 && action < 3, "action " + action);
      sumsToOne(answer.distribution().parameters().get("probabilities"));
    }
  }
}
