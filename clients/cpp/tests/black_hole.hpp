// A proxy that can silently drop the data of its connections, as when a machine loses power.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

class BlackHole {
 public:
  // target: 127.0.0.1:PORT.
  explicit BlackHole(const std::string& target) : server_(address(std::stoi(target.substr(target.rfind(':') + 1)))) {
    auto own = address(0);
    socklen_t length = sizeof own;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&own), length) != 0 || listen(listener_, 8) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&own), &length) != 0) {
      throw std::runtime_error("no port is free");
    }
    port_ = ntohs(own.sin_port);
    threads_.emplace_back([this] { accept_all(); });
  }
  BlackHole(const BlackHole&) = delete;
  BlackHole& operator=(const BlackHole&) = delete;
  ~BlackHole() {
    shutdown(listener_, SHUT_RDWR);
    threads_.front().join();
    for (const int end : ends_) shutdown(end, SHUT_RDWR);
    for (auto thread = threads_.begin() + 1; thread != threads_.end(); ++thread) thread->join();
    for (const int end : ends_) close(end);
    close(listener_);
  }

  std::string target() const { return "127.0.0.1:" + std::to_string(port_); }

  // Drops all further data of the current connections.
  void swallow() {
    const std::lock_guard lock(mutex_);
    for (const auto& living : living_) *living = false;
  }

 private:
  static sockaddr_in address(int port) {
    sockaddr_in found = {};
    found.sin_family = AF_INET;
    found.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    found.sin_port = htons(static_cast<std::uint16_t>(port));
    return found;
  }

  void accept_all() {
    for (int client; (client = accept(listener_, nullptr, nullptr)) >= 0;) {
      const int server = socket(AF_INET, SOCK_STREAM, 0);
      const auto living = std::make_shared<std::atomic<bool>>(true);
      const std::lock_guard lock(mutex_);
      ends_.insert(ends_.end(), {client, server});
      if (connect(server, reinterpret_cast<const sockaddr*>(&server_), sizeof server_) != 0) continue;
      living_.push_back(living);
      threads_.emplace_back([=] { forward(client, server, *living); });
      threads_.emplace_back([=] { forward(server, client, *living); });
    }
  }

  static void forward(int from, int to, const std::atomic<bool>& living) {
    std::array<char, 4096> buffer;
    for (ssize_t length; (length = read(from, buffer.data(), buffer.size())) > 0;) {
      if (living && send(to, buffer.data(), static_cast<std::size_t>(length), MSG_NOSIGNAL) != length) break;
    }
    if (living) shutdown(to, SHUT_RDWR);
  }

  const int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in server_;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<int> ends_;
  std::vector<std::shared_ptr<std::atomic<bool>>> living_;
  std::vector<std::thread> threads_;
};
