//! Any bytes as a message of the guest ABI: what decodes is whole, and says the same when it is encoded again.

#![no_main]

use fuelbox_abi::{Envelope, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let Ok(message) = Message::decode(data) else { return };
    for tensor in message.tensors() {
        tensor.check().expect("checked when it was decoded");
    }
    let once = encode(&message);
    let again = Message::decode(&once).expect("what was written can be read");
    // Bytes are compared: parameters may hold NaN.
    assert_eq!(encode(&again), once);
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let (tensors, specs): (Vec<_>, Vec<_>) =
        (message.tensors().collect(), message.specs().collect());
    let parameters: Vec<_> = message.parameters().collect();
    let envelope = Envelope {
        kind: message.kind(),
        status: message.status(),
        text: message.text(),
        tensors: &tensors,
        specs: &specs,
        parameters: &parameters,
    };
    let encoded = envelope.encode().expect("what was read can be written");
    let mut bytes = vec![0; encoded.len()];
    encoded.write_to(&mut bytes);
    bytes
}
