/**
 * Asks a pgkeras policy server for actions.
 *
 * <pre>{@code
 * try (var client = PolicyClient.connect("127.0.0.1:50051")) {
 *   Actions actions = client.act(Tensor.of(new float[] {0, 0.1f, 0, -0.1f}));
 * }
 * }</pre>
 *
 * <p>Every call has a deadline: its own, or else the client's. Whatever a server or the way to it
 * can do wrong is a child of {@link io.pgkeras.client.PolicyServiceException}.
 */
package io.pgkeras.client;
