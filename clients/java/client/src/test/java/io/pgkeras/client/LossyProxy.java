package io.pgkeras.client;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;

/** A proxy that can lose its connections: it then reads and drops all data. */
final class LossyProxy implements AutoCloseable {
  private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final List<AtomicBoolean> lost = new CopyOnWriteArrayList<>();
  private final List<Socket> sockets = new CopyOnWriteArrayList<>();

  LossyProxy(int port) throws IOException {
    start(
        () -> {
          while (true) {
            Socket near = listener.accept();
            Socket far = new Socket(InetAddress.getLoopbackAddress(), port);
            AtomicBoolean flag = new AtomicBoolean();
            lost.add(flag);
            sockets.addAll(List.of(near, far));
            start(() -> forward(near, far, flag));
            start(() -> forward(far, near, flag));
          }
        });
  }

  String target() {
    return "127.0.0.1:" + listener.getLocalPort();
  }

  /** Loses all current connections. Later connections work. */
  void loseConnections() {
    lost.forEach(flag -> flag.set(true));
  }

  @Override
  public void close() throws IOException {
    listener.close();
    for (Socket socket : sockets) {
      socket.close();
    }
  }

  private interface Work {
    void run() throws IOException;
  }

  private static void start(Work work) {
    Thread thread =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (IOException closed) {
                // The test has ended, or one side has disconnected.
              }
            });
    thread.setDaemon(true);
    thread.start();
  }

  private static void forward(Socket from, Socket to, AtomicBoolean lost) throws IOException {
    InputStream in = from.getInputStream();
    OutputStream out = to.getOutputStream();
    byte[] buffer = new byte[1 << 16];
    for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
      if (!lost.get()) {
        out.write(buffer, 0, n);
      }
    }
    if (!lost.get()) {
      to.close();
    }
  }
}
