package io.pgkeras.client;

import java.util.List;
import java.util.Map;

/**
 * An observation or a batch of observations: a {@link Tensor}, {@link Texts} for a Text space, or
 * {@link Fields} for a Dict or Tuple space.
 */
public sealed interface Value permits Tensor, Value.Texts, Value.Fields {
  /**
   * The strings of a batch for one Text space. A single string next to arrays without a batch axis
   * belongs to a single observation.
   *
   * @param texts one string per observation
   */
  record Texts(List<String> texts) implements Value {
    public Texts {
      texts = List.copyOf(texts);
    }
  }

  /**
   * The parts of a value of a Dict or Tuple space.
   *
   * @param fields the parts, keyed by name for a Dict and by "0", "1", ... for a Tuple
   */
  record Fields(Map<String, Value> fields) implements Value {
    public Fields {
      fields = Map.copyOf(fields);
    }
  }

  /** Encodes the value as a protocol message. */
  default io.pgkeras.v1.Value toMessage() {
    var message = io.pgkeras.v1.Value.newBuilder();
    if (this instanceof Tensor tensor) {
      message.setTensor(tensor.toTensorMessage());
    } else if (this instanceof Texts several) {
      message.setTexts(io.pgkeras.v1.Texts.newBuilder().addAllTexts(several.texts()));
    } else if (this instanceof Fields parts) {
      parts
          .fields()
          .forEach((key, part) -> message.getFieldsBuilder().putFields(key, part.toMessage()));
    }
    return message.build();
  }
}
