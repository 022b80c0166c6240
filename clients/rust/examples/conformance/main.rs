//! The conformance program of the Rust client. `conformance/README.md` specifies it.

#[path = "../support/flags.rs"]
mod flags;
mod observations;
mod scenarios;
#[path = "../support/vectors.rs"]
mod vectors;

use std::process::ExitCode;

use flags::Flags;
use scenarios::{Failure, Scenarios};

macro_rules! run_all {
    ($scenarios:ident, $only:ident: $($name:ident)*) => {{
        let mut failed = false;
        $(if $only.as_deref().is_none_or(|only| only == stringify!($name)) {
            failed |= report(stringify!($name), $scenarios.$name().await);
        })*
        failed
    }};
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let flags = Flags::from_arguments()?;
    let only = flags.find("only").map(str::to_owned);
    let scenarios = Scenarios::new(flags)?;
    let failed = run_all!(scenarios, only: describe single batch seeded_calls seeded_sessions session_goes_on
        unknown_policy bad_shape image masks memory structured structured_observations deadline nobody busy tls_and_token
        restart);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(name: &str, result: Result<(), Failure>) -> bool {
    match result {
        Ok(()) => println!("PASS {name}"),
        Err(Failure::Skip(reason)) => println!("SKIP {name}: {reason}"),
        Err(Failure::Fail(reason)) => {
            println!("FAIL {name}: {}", reason.replace('\n', " "));
            return true;
        }
    }
    false
}
