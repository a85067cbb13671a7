//! The messages of `onnx.proto` that the writer fills: names, tags and meaning are the format's own.
//!
//! A field that is missing here is one that is never written.

use prost::Message;

pub(super) const ATTRIBUTE_FLOAT: i32 = 1;
pub(super) const ATTRIBUTE_INT: i32 = 2;
pub(super) const ATTRIBUTE_GRAPH: i32 = 5;
pub(super) const ATTRIBUTE_INTS: i32 = 7;
pub(super) const DATA_LOCATION_EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(int64, tag = 1)]
    pub(super) ir_version: i64,
    #[prost(string, tag = 2)]
    pub(super) producer_name: String,
    #[prost(message, optional, tag = 7)]
    pub(super) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = 8)]
    pub(super) opset_import: Vec<OperatorSetIdProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSetIdProto {
    #[prost(string, tag = 1)]
    pub(super) domain: String,
    #[prost(int64, tag = 2)]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = 1)]
    pub(super) node: Vec<NodeProto>,
    #[prost(string, tag = 2)]
    pub(super) name: String,
    #[prost(message, repeated, tag = 5)]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = 11)]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = 12)]
    pub(super) output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = 1)]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = 2)]
    pub(super) output: Vec<String>,
    #[prost(string, tag = 3)]
    pub(super) name: String,
    #[prost(string, tag = 4)]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = 5)]
    pub(super) attribute: Vec<AttributeProto>,
    #[prost(string, tag = 7)]
    pub(super) domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(string, tag = 1)]
    pub(super) name: String,
    #[prost(float, optional, tag = 2)]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = 3)]
    pub(super) i: Option<i64>,
    #[prost(message, optional, tag = 6)]
    pub(super) g: Option<GraphProto>,
    #[prost(int64, repeated, tag = 8)]
    pub(super) ints: Vec<i64>,
    #[prost(int32, tag = 20)]
    pub(super) r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, tag = 1)]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = 2)]
    pub(super) data_type: i32,
    #[prost(string, tag = 8)]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = 9)]
    pub(super) raw_data: Vec<u8>,
    #[prost(message, repeated, tag = 13)]
    pub(super) external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = 14)]
    pub(super) data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StringStringEntryProto {
    #[prost(string, tag = 1)]
    pub(super) key: String,
    #[prost(string, tag = 2)]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    #[prost(string, tag = 1)]
    pub(super) name: String,
    #[prost(message, optional, tag = 2)]
    pub(super) r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeProto {
    #[prost(message, optional, tag = 1)]
    pub(super) tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorTypeProto {
    #[prost(int32, tag = 1)]
    pub(super) elem_type: i32,
    #[prost(message, optional, tag = 2)]
    pub(super) shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShapeProto {
    #[prost(message, repeated, tag = 1)]
    pub(super) dim: Vec<Dimension>,
}

/// In the format a `oneof`: exactly one is set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = 1)]
    pub(super) dim_value: Option<i64>,
    #[prost(string, optional, tag = 2)]
    pub(super) dim_param: Option<String>,
}
