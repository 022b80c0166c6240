package io.pgkeras.client;

/** A field of the request is invalid. */
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

  /** Returns the path of the field in the message, such as "observation". */
  public String field() {
    return field;
  }

  /** Returns a description of a valid value. */
  public String expected() {
    return expected;
  }

  /** Returns a description of the value that was received. */
  public String got() {
    return got;
  }
}
