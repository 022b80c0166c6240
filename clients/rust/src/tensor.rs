//! Converts native arrays to the protocol's tensors and back, a whole array at a time.

use std::borrow::Cow;
use std::collections::HashMap;

use prost::bytes::Bytes;

use crate::Error;
use crate::v1::{self, DataType};

#[cfg(target_endian = "big")]
compile_error!("tensors travel as little-endian memory");

const MAX_AXES: usize = 32;

/// An element type of a tensor.
pub trait Element: bytemuck::NoUninit {
    /// The corresponding type of the protocol.
    const DTYPE: DataType;

    /// Reads elements from memory that holds a whole number of them. Borrows aligned memory, else copies it in one
    /// piece.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Cow<'_, [Self]>;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),*) => {$(
        impl Element for $type {
            const DTYPE: DataType = DataType::$dtype;

            fn read(bytes: &[u8]) -> Cow<'_, [Self]> {
                bytemuck::try_cast_slice(bytes)
                    .map_or_else(|_| Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)), Cow::Borrowed)
            }
        }
    )*};
}

elements!(u8 => Uint8, i8 => Int8, u16 => Uint16, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Float32,
          f64 => Float64);

impl Element for bool {
    const DTYPE: DataType = DataType::Bool;

    fn read(bytes: &[u8]) -> Cow<'_, [Self]> {
        Cow::Borrowed(bytemuck::checked::cast_slice(bytes))
    }
}

/// A borrowed native array in C order.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    dtype: DataType,
    shape: Vec<i64>,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Creates an array of the given shape.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] if the number of values does not match the shape.
    pub fn new<T: Element>(values: &'a [T], shape: &[usize]) -> Result<Self, Error> {
        Self::from_bytes(T::DTYPE, bytemuck::cast_slice(values), shape)
    }

    /// Creates an array without axes from a single number.
    pub fn scalar<T: Element>(value: &'a T) -> Self {
        Array { dtype: T::DTYPE, shape: Vec::new(), bytes: bytemuck::bytes_of(value) }
    }

    /// Creates an array from little-endian bytes, for element types that Rust lacks, such as float16.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] if the number of bytes does not match the shape.
    pub fn from_bytes(dtype: DataType, bytes: &'a [u8], shape: &[usize]) -> Result<Self, Error> {
        let shape: Vec<i64> = shape.iter().map(|&length| i64::try_from(length).unwrap_or(i64::MAX)).collect();
        check(dtype as i32, &shape, bytes.len(), "array")?;
        Ok(Array { dtype, shape, bytes })
    }

    pub(crate) fn message(&self) -> v1::Tensor {
        let data = Bytes::copy_from_slice(self.bytes);
        v1::Tensor { dtype: self.dtype as i32, shape: self.shape.clone(), data }
    }
}

impl<'a, T: Element> From<&'a [T]> for Array<'a> {
    fn from(values: &'a [T]) -> Self {
        let length = i64::try_from(values.len()).unwrap_or(i64::MAX);
        Array { dtype: T::DTYPE, shape: vec![length], bytes: bytemuck::cast_slice(values) }
    }
}

impl<'a, T: Element, const N: usize> From<&'a [T; N]> for Array<'a> {
    fn from(values: &'a [T; N]) -> Self {
        values.as_slice().into()
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for Array<'a> {
    fn from(values: &'a Vec<T>) -> Self {
        values.as_slice().into()
    }
}

/// An array of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DataType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Tensor {
    /// Decodes a message and shares its memory.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`], with a path that begins with `field`, if the type is unknown, the shape is invalid,
    /// or the data does not match them.
    pub fn from_message(message: &v1::Tensor, field: &str) -> Result<Self, Error> {
        check(message.dtype, &message.shape, message.data.len(), field)?;
        let dtype = message.dtype();
        if let (DataType::Bool, Some(byte)) = (dtype, message.data.iter().find(|&&byte| byte > 1)) {
            return Err(Error::invalid(format!("{field}.data"), "bytes of 0 or 1 for a bool", byte.to_string()));
        }
        let shape = message.shape.iter().map(|&length| usize::try_from(length).unwrap_or(usize::MAX)).collect();
        Ok(Tensor { dtype, shape, bytes: message.data.clone() })
    }

    /// Returns the type of the elements.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Returns the length of every axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements' little-endian bytes, in C order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the elements in C order.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] if they are not of type `T`.
    pub fn values<T: Element>(&self) -> Result<Cow<'_, [T]>, Error> {
        if self.dtype != T::DTYPE {
            return Err(Error::invalid("values", format!("a reader of {:?}", self.dtype), format!("{:?}", T::DTYPE)));
        }
        Ok(T::read(&self.bytes))
    }

    /// Returns one element, by its index in C order.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] if the elements are not of type `T`, or if the index is out of range.
    pub fn item<T: Element>(&self, index: usize) -> Result<T, Error> {
        let values = self.values::<T>()?;
        let missing = || Error::invalid("item", format!("an index below {}", values.len()), index.to_string());
        values.get(index).copied().ok_or_else(missing)
    }

    pub(crate) fn first_row(mut self) -> Result<Self, Error> {
        if self.shape.first() != Some(&1) {
            let shape = &self.shape;
            return Err(Error::ServerFailed(format!(
                "the server answered one observation with an array of shape {shape:?}"
            )));
        }
        self.shape.remove(0);
        Ok(self)
    }
}

/// An observation or a batch of observations: an array, texts, or fields that follow the structure of the space.
#[derive(Clone, Debug)]
pub struct Observation(pub(crate) v1::Value);

impl Observation {
    /// Creates observations of a Text space, one string per observation.
    pub fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let texts = texts.into_iter().map(Into::into).collect();
        Observation(v1::Value { kind: Some(v1::value::Kind::Texts(v1::Texts { texts })) })
    }

    /// Creates an observation of a Dict space from its keys, or of a Tuple space from "0", "1", ...
    pub fn fields<'a>(parts: impl IntoIterator<Item = (&'a str, Observation)>) -> Self {
        let fields: HashMap<_, _> = parts.into_iter().map(|(key, part)| (key.to_owned(), part.0)).collect();
        Observation(v1::Value { kind: Some(v1::value::Kind::Fields(v1::Fields { fields })) })
    }

    /// Returns the message.
    pub fn into_message(self) -> v1::Value {
        self.0
    }

    /// Turns one observation into a batch of one.
    pub(crate) fn into_batch(mut self) -> Self {
        add_batch_axis(&mut self.0);
        self
    }
}

impl<'a, A: Into<Array<'a>>> From<A> for Observation {
    fn from(array: A) -> Self {
        Observation(v1::Value { kind: Some(v1::value::Kind::Tensor(array.into().message())) })
    }
}

fn add_batch_axis(value: &mut v1::Value) {
    match &mut value.kind {
        Some(v1::value::Kind::Tensor(tensor)) => tensor.shape.insert(0, 1),
        Some(v1::value::Kind::Fields(fields)) => fields.fields.values_mut().for_each(add_batch_axis),
        Some(v1::value::Kind::Texts(_)) | None => {}
    }
}

fn element_size(dtype: i32) -> Option<usize> {
    match DataType::try_from(dtype).ok()? {
        DataType::Unspecified => None,
        DataType::Bool | DataType::Uint8 | DataType::Int8 => Some(1),
        DataType::Uint16 | DataType::Int16 | DataType::Float16 => Some(2),
        DataType::Int32 | DataType::Float32 => Some(4),
        DataType::Int64 | DataType::Float64 => Some(8),
    }
}

fn check(dtype: i32, shape: &[i64], bytes: usize, field: &str) -> Result<(), Error> {
    let Some(size) = element_size(dtype) else {
        return Err(Error::invalid(format!("{field}.dtype"), "a DataType that is known", dtype.to_string()));
    };
    if shape.len() > MAX_AXES {
        let got = format!("{} axes", shape.len());
        return Err(Error::invalid(format!("{field}.shape"), format!("at most {MAX_AXES} axes"), got));
    }
    if shape.iter().any(|&length| length < 0) {
        return Err(Error::invalid(format!("{field}.shape"), "lengths of at least 0", format!("{shape:?}")));
    }
    let expected = if shape.contains(&0) {
        Some(0)
    } else {
        shape.iter().try_fold(size, |size, &length| size.checked_mul(usize::try_from(length).ok()?))
    };
    if expected == Some(bytes) {
        return Ok(());
    }
    let expected = expected.map_or("more than memory holds, in".to_owned(), |size| size.to_string());
    let expected =
        format!("{expected} bytes for shape {shape:?} of {:?}", DataType::try_from(dtype).unwrap_or_default());
    Err(Error::invalid(format!("{field}.data"), expected, format!("{bytes} bytes")))
}
