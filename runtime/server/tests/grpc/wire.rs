//! Bytes that are no message.

use super::*;

#[test]
fn what_is_no_message_is_refused_with_a_code() {
    let served = serve_limited(|limits| limits.body_pause = Duration::from_millis(100));
    let client = Client::new(&served);
    let code = |code: Code, name: &str| ((code as i32).to_string(), name.to_owned());
    let bad = code(Code::InvalidArgument, "bad_input");
    for (path, body, expected) in [
        (INFER, &[0, 0, 0, 0, 1, 0xff][..], bad.clone()),
        // A packed message, and no word of how.
        (INFER, &[1, 0, 0, 0, 1, 0xff], bad.clone()),
        (INFER, &[7, 0, 0, 0, 1, 0xff], bad.clone()),
        (INFER, &[0, 0, 0, 0, 9, 0xff], bad.clone()),
        (INFER, &[], bad),
        (INFER, &[0, 0xff, 0xff, 0xff, 0xff], code(Code::OutOfRange, "too_large")),
        // What needs no key takes names.
        (
            "/inference.GRPCInferenceService/ServerLive",
            &[0, 0, 0, 0x10, 1],
            code(Code::OutOfRange, "too_large"),
        ),
        ("/grpc.health.v1.Health/Check", &[0, 0, 0, 0x10, 1], code(Code::OutOfRange, "too_large")),
        (
            "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
            &[0, 0, 0, 0, 0],
            code(Code::Unimplemented, "not_supported"),
        ),
        ("/other.Service/Call", &[0, 0, 0, 0, 0], code(Code::Unimplemented, "not_supported")),
    ] {
        let body = reqwest::Body::from(body.to_vec());
        assert_eq!(send_bytes(&client, &served, path, body), expected, "{path}");
    }
    // A message that does not go on is not waited for.
    use tokio_stream::StreamExt;
    let started = tokio_stream::iter([Ok::<_, std::io::Error>(vec![0, 0, 0, 0, 9, 1])]);
    let body = reqwest::Body::wrap_stream(started.chain(tokio_stream::pending()));
    let expected = code(Code::DeadlineExceeded, "request_timeout");
    assert_eq!(send_bytes(&client, &served, INFER, body), expected);
}
