//! Messages and their bytes. Before a message is made of bytes, it is known what will become of them.

use super::{
    protocol::{
        ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
        ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
        RepositoryModelUnloadRequest, ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
    },
    scan,
};
use crate::{
    refusal::{Code, Refusal},
    rest::HEAVY_BYTES,
};
use prost::{Message, bytes::Buf};
use std::marker::PhantomData;
use tokio::task::block_in_place;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Bytes of a message without tensors, unpacked. Two of them become a hundred at worst.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// A message from a client.
pub(crate) trait Bounded: Message + Default {
    /// Whether these bytes may become a message.
    fn check(bytes: &[u8]) -> Result<(), Refusal> {
        let found = bytes.len();
        if found <= SMALL_BYTES_MAX {
            return Ok(());
        }
        let sentence =
            format!("message over limit: found {found} bytes, allowed {SMALL_BYTES_MAX}");
        Err(Refusal::new(Code::TooLarge, sentence))
    }
}

impl Bounded for ModelInferRequest {
    fn check(bytes: &[u8]) -> Result<(), Refusal> {
        scan::infer_request(bytes)
    }
}

impl Bounded for ServerLiveRequest {}
impl Bounded for ServerReadyRequest {}
impl Bounded for ServerMetadataRequest {}
impl Bounded for ModelReadyRequest {}
impl Bounded for ModelMetadataRequest {}
impl Bounded for ModelConfigRequest {}
impl Bounded for ModelStatisticsRequest {}
impl Bounded for RepositoryIndexRequest {}
impl Bounded for RepositoryModelLoadRequest {}
impl Bounded for RepositoryModelUnloadRequest {}

/// Answers to bytes, and bytes to requests.
pub(crate) struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(PhantomData)
    }
}

/// Writes answers.
pub(crate) struct Writer<T>(PhantomData<T>);

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Room for all of it: growing by and by would copy large outputs several times.
        let bytes = item.encoded_len();
        to.reserve(bytes);
        let written = heavy(bytes, || item.encode(to));
        written.map_err(|error| Refusal::fault(&error).into())
    }
}

/// Reads requests.
pub(crate) struct Reader<U>(PhantomData<U>);

impl<U: Bounded> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A part of the buffer itself: raw tensors stay where they are.
        let bytes = from.copy_to_bytes(from.remaining());
        heavy(bytes.len(), || {
            U::check(&bytes)?;
            U::decode(bytes).map(Some).map_err(|error| {
                let reason = crate::refusal::excerpt(&error.to_string());
                Refusal::bad(format!("malformed message: {reason}")).into()
            })
        })
    }
}

/// Does work that takes long when there are many bytes.
fn heavy<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > HEAVY_BYTES { block_in_place(work) } else { work() }
}
