//! Tensors of every datatype and many shapes.

use fuelbox_engine::{DataType, Shape, Tensor};
use proptest::{collection::vec, prelude::*, sample::select};

/// Shapes of few elements: scalars, empty ones, up to eight dimensions.
fn shape() -> impl Strategy<Value = Shape> {
    vec(0..4u64, 0..=8).prop_filter_map("few elements", |dims| {
        let shape = Shape::new(&dims).unwrap();
        shape.element_count().is_some_and(|count| count <= 256).then_some(shape)
    })
}

/// A tensor of any bits. With `json`, one that plain JSON can hold.
pub(crate) fn tensor(name: &'static str, json: bool) -> impl Strategy<Value = Tensor> {
    (select(&DataType::ALL[..]), shape()).prop_flat_map(move |(datatype, shape)| {
        let count = shape.element_count().unwrap() as usize;
        vec(element(datatype, json), count).prop_map(move |elements| Tensor {
            name: name.into(),
            datatype,
            shape,
            bytes: elements.concat(),
        })
    })
}

fn element(datatype: DataType, json: bool) -> BoxedStrategy<Vec<u8>> {
    let finite = move |bytes: &Vec<u8>| match (json, bytes.as_slice()) {
        (true, &[a, b]) => half::f16::from_le_bytes([a, b]).is_finite(),
        (true, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).is_finite(),
        (true, &[a, b, c, d, e, f, g, h]) => {
            f64::from_le_bytes([a, b, c, d, e, f, g, h]).is_finite()
        }
        _ => true,
    };
    match datatype {
        DataType::Bool => (0..2u8).prop_map(|flag| vec![flag]).boxed(),
        DataType::Bytes if json => {
            any::<String>().prop_map(|text| prefixed(text.as_bytes())).boxed()
        }
        DataType::Bytes => vec(any::<u8>(), 0..9).prop_map(|bytes| prefixed(&bytes)).boxed(),
        DataType::Fp16 | DataType::Fp32 | DataType::Fp64 => {
            let size = datatype.size_bytes().unwrap() as usize;
            vec(any::<u8>(), size).prop_filter("finite", finite).boxed()
        }
        _ => vec(any::<u8>(), datatype.size_bytes().unwrap() as usize).boxed(),
    }
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}
