//! Generates the messages and the stub from `protos/`, with a compiler written in Rust, which replaces protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../protos";
    println!("cargo::rerun-if-changed={root}");
    let descriptors = protox::compile(["pgkeras/v1/service.proto"], [root])?;
    tonic_prost_build::configure()
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
