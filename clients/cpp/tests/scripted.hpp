// A gRPC server on a real socket with scripted responses. Its policy does not specify an observation space.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "pgkeras/v1/service.grpc.pb.h"

class Scripted final : public pgkeras::v1::PolicyService::Service {
 public:
  using Stream = grpc::ServerReaderWriter<pgkeras::v1::PlayResponse, pgkeras::v1::PlayRequest>;

  Scripted() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Scripted() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string target() const { return "127.0.0.1:" + std::to_string(port_); }

  static void set_action(pgkeras::v1::ActResponse& response, std::uint8_t action) {
    auto& tensor = *response.mutable_action();
    tensor.set_dtype(pgkeras::v1::DATA_TYPE_UINT8);
    tensor.add_shape(1);
    tensor.set_data(std::string(1, static_cast<char>(action)));
  }

  // Responds to a message with an action, or with an error that leaves the session open.
  static void answer(Stream& stream, const pgkeras::v1::PlayRequest& request,
                     grpc::StatusCode code = grpc::StatusCode::OK) {
    pgkeras::v1::PlayResponse response;
    response.set_id(request.id());
    if (code == grpc::StatusCode::OK) {
      set_action(*response.mutable_act(), static_cast<std::uint8_t>(request.id()));
    } else {
      response.mutable_error()->set_code(code);
    }
    stream.Write(response);
  }

  // How long GetPolicy takes.
  std::chrono::milliseconds slowness{0};
  // The status of a call of Act.
  std::function<grpc::Status()> act = [] { return grpc::Status::OK; };
  // Handles a message of a session. Returning a status ends the session.
  std::function<grpc::Status(Stream&, const pgkeras::v1::PlayRequest&)> play = [](Stream& stream, const auto& request) {
    answer(stream, request);
    return grpc::Status::OK;
  };

  grpc::Status GetPolicy(grpc::ServerContext*, const pgkeras::v1::GetPolicyRequest*,
                         pgkeras::v1::GetPolicyResponse* response) override {
    std::this_thread::sleep_for(slowness);
    response->mutable_policy()->set_spec_hash("hash");
    return grpc::Status::OK;
  }

  grpc::Status Act(grpc::ServerContext*, const pgkeras::v1::ActRequest*, pgkeras::v1::ActResponse* response) override {
    set_action(*response, 0);
    return act();
  }

  grpc::Status Play(grpc::ServerContext*, Stream* stream) override {
    for (pgkeras::v1::PlayRequest request; stream->Read(&request);) {
      if (auto status = play(*stream, request); !status.ok()) return status;
    }
    return grpc::Status::OK;
  }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};
