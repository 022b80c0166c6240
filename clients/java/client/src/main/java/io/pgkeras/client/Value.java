package io.pgkeras.client;

import java.util.List;
import java.util.Map;

/**
 * An observation, or a batch of them: a {@link Tensor}, or texts or fields where the observation
 * space is a Text, a Dict or a Tuple.
 */
public sealed interface Value permits Tensor, Value.Texts, Value.Fields {
  /**
   * The strings of a batch for one Text space; a single one beside arrays without a batch axis is a
   * single observation's.
   *
   * @param texts one for each observation
   */
  record Texts(List<String> texts) implements Value {
    public Texts {
      texts = List.copyOf(texts);
    }
  }

  /**
   * The parts of a value of a Dict or Tuple space.
   *
   * @param fields by the keys of the Dict, or "0", "1" and so on for a Tuple
   */
  record Fields(Map<String, Value> fields) implements Value {
    public Fields {
      fields = Map.copyOf(fields);
    }
  }

  /** The message of the protocol that says the same. */
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
