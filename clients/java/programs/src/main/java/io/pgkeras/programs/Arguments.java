package io.pgkeras.programs;

import java.util.HashMap;
import java.util.Map;

/** The flags of a program, {@code --name value} each. Unknown flags are ignored. */
record Arguments(Map<String, String> values) {
  static Arguments parse(String[] words) {
    Map<String, String> values = new HashMap<>();
    for (int i = 0; i + 1 < words.length; i += 2) {
      values.put(words[i].replaceFirst("^--", ""), words[i + 1]);
    }
    return new Arguments(values);
  }

  String get(String name, String byDefault) {
    return values.getOrDefault(name, byDefault);
  }
}
