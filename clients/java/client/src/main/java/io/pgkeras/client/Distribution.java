package io.pgkeras.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * An action distribution.
 *
 * @param kind the kind's name in the protocol, such as "categorical" or "diagonal_gaussian"
 * @param parameters the parameters by name, such as "probabilities". In a structured distribution
 *     the part's path precedes the name, as in "move.probabilities"
 */
public record Distribution(String kind, Map<String, Tensor> parameters) {
  public Distribution {
    parameters = Collections.unmodifiableMap(new LinkedHashMap<>(parameters));
  }

  /** Decodes a message. Returns null if this client does not know the distribution's kind. */
  static Distribution decode(io.pgkeras.v1.Distribution message) {
    // Uses reflection, because kinds that are added to the protocol then need no code here.
    FieldDescriptor kind =
        message.getOneofFieldDescriptor(message.getDescriptorForType().getOneofs().get(0));
    if (kind == null) {
      return null;
    }
    Map<String, Tensor> parameters = new LinkedHashMap<>();
    if (message.hasStructured()) {
      message
          .getStructured()
          .getPartsMap()
          .forEach(
              (key, part) -> {
                Distribution inner = decode(part);
                if (inner != null) {
                  inner.parameters.forEach(
                      (name, parameter) -> parameters.put(key + "." + name, parameter));
                }
              });
      return new Distribution(kind.getName(), parameters);
    }
    ((Message) message.getField(kind))
        .getAllFields()
        .forEach(
            (field, value) -> {
              String path = "distribution." + kind.getName() + "." + field.getName();
              parameters.put(field.getName(), Tensor.decode((io.pgkeras.v1.Tensor) value, path));
            });
    return new Distribution(kind.getName(), parameters);
  }

  Distribution firstRow() {
    return new Distribution(kind, Actions.firstRows(parameters));
  }
}
