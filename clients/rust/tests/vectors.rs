//! Tests the client against `conformance/vectors.json`, as `conformance/README.md` specifies.

#[path = "../examples/support/vectors.rs"]
mod vectors;

use std::time::Duration;

use pgkeras::testing::{Call, error_of, read_actions, read_step};
use pgkeras::v1::{self, DataType, space};
use pgkeras::{Array, Element, Error, Observation, Tensor};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};
use vectors::{base64, shape};

fn section(name: &str) -> Vec<Value> {
    let all = vectors::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/vectors.json")).unwrap();
    let section = all[name].as_array().unwrap().clone();
    assert!(!section.is_empty());
    section
}

fn message<M: Message + Default>(vector: &Value) -> M {
    M::decode(base64(&vector["message"]).as_slice()).unwrap()
}

fn data_type(name: &Value) -> DataType {
    DataType::from_str_name(&format!("DATA_TYPE_{}", name.as_str().unwrap().to_uppercase())).unwrap()
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        None => value.as_f64().unwrap(),
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        Some(other) => panic!("{other}"),
    }
}

/// Converts the bits of a float16, for which Rust has no stable type, to a number.
fn from_half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        0 => fraction * 2_f64.powi(-24),
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

fn values<T: Element>(tensor: &Tensor, widen: impl Fn(T) -> f64) -> Vec<f64> {
    tensor.values::<T>().unwrap().iter().map(|&value| widen(value)).collect()
}

fn assert_values(tensor: &Tensor, expected: &Value) {
    let expected = expected.as_array().unwrap();
    let got = match tensor.dtype() {
        DataType::Int64 => {
            let got: Vec<_> = tensor.values::<i64>().unwrap().iter().map(i64::to_string).collect();
            return assert_eq!(json!(got), json!(expected));
        }
        DataType::Bool => {
            return assert_eq!(json!(tensor.values::<bool>().unwrap()), json!(expected));
        }
        DataType::Uint8 => values(tensor, f64::from as fn(u8) -> f64),
        DataType::Int8 => values(tensor, f64::from as fn(i8) -> f64),
        DataType::Uint16 => values(tensor, f64::from as fn(u16) -> f64),
        DataType::Int16 => values(tensor, f64::from as fn(i16) -> f64),
        DataType::Int32 => values(tensor, f64::from as fn(i32) -> f64),
        DataType::Float32 => values(tensor, f64::from as fn(f32) -> f64),
        DataType::Float64 => values(tensor, |value: f64| value),
        DataType::Float16 => {
            tensor.bytes().chunks(2).map(|pair| from_half(u16::from_le_bytes([pair[0], pair[1]]))).collect()
        }
        DataType::Unspecified => panic!("a tensor without a type"),
    };
    let narrow = |value: &Value| {
        let wide = number(value);
        if tensor.dtype() == DataType::Float32 { f64::from(wide as f32) } else { wide }
    };
    let expected: Vec<_> = expected.iter().map(narrow).collect();
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&got), bits(&expected), "{got:?}, not {expected:?}");
}

#[test]
fn tensors() {
    for vector in section("tensors") {
        println!("{}", vector["name"]);
        let message: v1::Tensor = message(&vector);
        let tensor = Tensor::from_message(&message, "tensor").unwrap();
        assert_eq!(tensor.dtype(), data_type(&vector["dtype"]));
        assert_eq!(tensor.shape(), shape(&vector["shape"]));
        assert_values(&tensor, &vector["values"]);

        let array = Array::from_bytes(tensor.dtype(), tensor.bytes(), tensor.shape()).unwrap();
        let encoded = tensor_of(array);
        assert_eq!(encoded, message);
        assert_eq!(encoded.data, base64(&vector["data"]));
    }
}

fn tensor_of<'a>(array: impl Into<Array<'a>>) -> v1::Tensor {
    let observation: Observation = array.into().into();
    match observation.into_message().kind {
        Some(v1::value::Kind::Tensor(tensor)) => tensor,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_tensors() {
    for vector in section("bad_tensors") {
        let result = Tensor::from_message(&message(&vector), "tensor");
        let Err(Error::InvalidRequest { field, .. }) = result else { panic!("{}: {result:?}", vector["name"]) };
        assert_eq!(json!(field), vector["field"], "{}", vector["name"]);
    }
}

#[test]
fn spaces() {
    for vector in section("spaces") {
        let space: v1::Space = message(&vector);
        let (kind, lengths, dtype) = match space.kind.unwrap() {
            space::Kind::Box(space) => ("box", Some(space.shape.clone()), Some(space.dtype())),
            space::Kind::Discrete(space) => ("discrete", Some(vec![]), Some(space.dtype())),
            space::Kind::MultiDiscrete(space) => ("multi_discrete", Some(space.shape.clone()), Some(space.dtype())),
            space::Kind::MultiBinary(space) => ("multi_binary", Some(space.shape), None),
            space::Kind::Text(_) => ("text", None, None),
            space::Kind::Dict(_) => ("dict", None, None),
            space::Kind::Tuple(_) => ("tuple", None, None),
        };
        assert_eq!(vector["kind"], kind);
        assert_eq!(vector.get("shape"), lengths.map(|lengths| json!(lengths)).as_ref());
        assert_eq!(vector.get("dtype").map(data_type), dtype);
    }
}

#[test]
fn distributions() {
    for vector in section("distributions") {
        println!("{}", vector["name"]);
        let action = Some(tensor_of(&[0_i64]));
        let distribution = Some(message(&vector));
        let answer = read_actions(v1::ActResponse { action, distribution, ..Default::default() }).unwrap();
        let expected = vector["parameters"].as_object().unwrap();
        assert_eq!(answer.distribution.len(), expected.len());
        for (name, parameter) in expected {
            let tensor = &answer.distribution[name.as_str()];
            assert_eq!(tensor.shape(), shape(&parameter["shape"]));
            assert_eq!(tensor.dtype(), data_type(&parameter["dtype"]));
            assert_values(tensor, &parameter["values"]);
        }
    }
}

/// Converts an error to its form in the vectors.
fn describe(error: &Error) -> Value {
    match error {
        Error::InvalidRequest { field, expected, got } => {
            json!({"error": "invalid_request", "field": field, "expected": expected, "got": got})
        }
        Error::PolicyNotFound(message) => json!({"error": "policy_not_found", "message": message}),
        Error::SpecMismatch(_) => json!({"error": "spec_mismatch"}),
        Error::ServerBusy { retry_after, .. } => {
            json!({"error": "server_busy", "retry_after_seconds": retry_after.as_secs_f64()})
        }
        Error::DeadlineExceeded(_) => json!({"error": "deadline_exceeded"}),
        Error::ServerUnavailable { retry_after: Some(delay), .. } => {
            json!({"error": "server_unavailable", "retry_after_seconds": delay.as_secs_f64()})
        }
        Error::ServerUnavailable { .. } => json!({"error": "server_unavailable"}),
        Error::Unauthenticated(_) => json!({"error": "unauthenticated"}),
        Error::ServerFailed(_) => json!({"error": "server_failed"}),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors() {
    let call = Call { target: "127.0.0.1:1".into(), timeout: Duration::from_secs(1) };
    for vector in section("errors") {
        let details = if vector["status"].is_null() { vec![] } else { base64(&vector["status"]) };
        let code = Code::from_i32(vector["code"].as_i64().unwrap() as i32);
        let status = Status::with_details(code, vector["message"].as_str().unwrap(), details.into());
        let got = describe(&error_of(&status, &call));
        for (key, value) in vector["expected"].as_object().unwrap() {
            assert_eq!(got.get(key), Some(value), "{}: {key}", vector["name"]);
        }
        assert_eq!(got.get("retry_after_seconds"), vector["expected"].get("retry_after_seconds"), "{}", vector["name"]);
    }
}

#[test]
fn bad_answers() {
    for vector in section("bad_answers") {
        let result = read_step(message(&vector), true);
        let Err(Error::ServerFailed(said)) = result else { panic!("{}: {result:?}", vector["name"]) };
        assert!(said.contains(vector["says"].as_str().unwrap()), "{}: {said}", vector["name"]);
    }
}

#[test]
fn a_cancelled_call_reports_that_it_was_cut_off() {
    let call = Call { target: "127.0.0.1:1".into(), timeout: Duration::from_secs(1) };
    let error = error_of(&Status::cancelled(""), &call);
    assert!(error.to_string().contains("has cut the call off"), "{error}");
}

#[test]
fn elements_are_read_only_as_their_own_type() {
    let tensor = Tensor::from_message(&tensor_of(&[1.0_f32, 2.0]), "tensor").unwrap();
    assert_eq!(tensor.item::<f32>(1), Ok(2.0));
    assert!(matches!(tensor.values::<i64>(), Err(Error::InvalidRequest { .. })));
    assert!(matches!(tensor.item::<f32>(2), Err(Error::InvalidRequest { .. })));
}

#[test]
fn elements_are_read_at_any_alignment() {
    let numbers = [1.0_f64, -2.0, 3.5];
    let encoded = tensor_of(&numbers).encode_to_vec();
    for offset in 0..8 {
        // The decoded bytes share this buffer, so at most one of these tensors is aligned.
        let buffer = prost::bytes::Bytes::from([vec![0; offset], encoded.clone()].concat()).slice(offset..);
        let tensor = Tensor::from_message(&v1::Tensor::decode(buffer).unwrap(), "tensor").unwrap();
        assert_eq!(*tensor.values::<f64>().unwrap(), numbers);
    }
}

#[test]
fn an_array_must_match_its_shape() {
    assert!(matches!(Array::new(&[0.0_f32; 7], &[2, 4]), Err(Error::InvalidRequest { .. })));
    assert!(Array::new(&[0.0_f32; 8], &[2, 4]).is_ok());
}

#[test]
fn observations_follow_the_structure_of_their_space() {
    let order = Observation::texts(["left", "right"]);
    let observation = Observation::fields([("goal", Observation::from(&[1.0_f32, 2.0])), ("order", order)]);
    let Some(v1::value::Kind::Fields(fields)) = observation.into_message().kind else { panic!("no fields") };
    assert!(matches!(&fields.fields["goal"].kind, Some(v1::value::Kind::Tensor(tensor)) if tensor.shape == [2]));
    assert!(matches!(&fields.fields["order"].kind, Some(v1::value::Kind::Texts(texts)) if texts.texts[1] == "right"));
}
