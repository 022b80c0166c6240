// A policy server as a child process: python3 -m pgkeras serve, or with the interpreter in $PGKERAS_PYTHON.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

class Server {
 public:
  explicit Server(const std::string& port = "0")
      : scratch_(std::filesystem::temp_directory_path() / ("pgkeras-test-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(scratch_);
    const auto port_file = scratch_ / "port";
    const char* given = std::getenv("PGKERAS_PYTHON");
    const std::string python = given ? given : "python3";
    process_ = fork();
    if (process_ == 0) {
      if (!std::freopen((scratch_ / "log").c_str(), "w", stderr) || !std::freopen("/dev/null", "w", stdout)) _exit(126);
      execlp(python.c_str(), python.c_str(), "-m", "pgkeras", "serve", REPOSITORY "/saved_models", "--port",
             port.c_str(), "--port-file", port_file.c_str(), nullptr);
      _exit(127);
    }
    for (int i = 0; i < 3000 && !std::filesystem::exists(port_file); ++i) {
      if (waitpid(process_, nullptr, WNOHANG) == process_) {
        throw std::runtime_error(python +
                                 " -m pgkeras serve has ended: install pgkeras[serve] for it, or name another " +
                                 "Python in PGKERAS_PYTHON. " + text(scratch_ / "log"));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    port_ = text(port_file);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    std::filesystem::remove_all(scratch_);
  }

  std::string target() const { return "127.0.0.1:" + port_; }
  const std::string& port() const { return port_; }
  void pause() const { kill(process_, SIGSTOP); }
  void go_on() const { kill(process_, SIGCONT); }

 private:
  static std::string text(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string content{std::istreambuf_iterator<char>(file), {}};
    while (content.ends_with('\n')) content.pop_back();
    return content;
  }

  const std::filesystem::path scratch_;
  pid_t process_ = 0;
  std::string port_;
};
