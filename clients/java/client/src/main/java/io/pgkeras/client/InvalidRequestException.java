package io.pgkeras.client;

/** A field of a request is wrong. */
public final class InvalidRequestException extends PolicyServiceException {
  private static final long serialVersionUID = 1;
  private final String field;
  private final String expected;
  private final String got;

  InvalidRequestException(String field, String expected, String got) {
    this(field, expected, got, null);
  }

  InvalidRequestException(String field, String expected, String got, Throwable cause) {
    super(field + ": expected " + expected + ", got " + got, cause);
    this.field = field;
    this.expected = expected;
    this.got = got;
  }

  /** Its path in the message, such as "observation". */
  public String field() {
    return field;
  }

  /** What would have been right. */
  public String expected() {
    return expected;
  }

  /** What came. */
  public String got() {
    return got;
  }
}
