//! Streams of calls.

use super::*;

fn code_of(answer: &ModelStreamInferResponse) -> Option<&InferParameter> {
    answer.infer_response.as_ref().unwrap().parameters.get("fuelbox_code")
}

#[test]
fn a_stream_is_answered_in_order_and_goes_on_after_a_refusal() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.publish("trap", "1", &Guest::running("(unreachable)"));
    let client = Client::new(&served);
    let mut stream = client.stream(&served.alice);
    let numbered = |id: usize| {
        let request = ModelInferRequest { id: id.to_string(), ..good() };
        match id % 4 {
            1 => ModelInferRequest { raw_input_contents: vec![Bytes::new()], ..request },
            2 => ModelInferRequest { model_name: "trap".into(), ..request },
            3 => ModelInferRequest { model_name: "none".into(), ..request },
            _ => request,
        }
    };
    // More than may be under way.
    let count = 100;
    (0..count).for_each(|id| stream.send(numbered(id)));
    for id in 0..count {
        let answer = client.next(&mut stream).unwrap().unwrap();
        let response = answer.infer_response.as_ref().unwrap();
        assert_eq!(response.id, id.to_string());
        let code = |code: &str| Some(parameter(ParameterChoice::StringParam(code.into())));
        let expected = match id % 4 {
            1 => ("input 'x': 0 bytes found, shape [1] of FP32 takes 4", code("bad_input")),
            2 => ("the model failed: ", code("model_failed")),
            3 => ("no model 'none'", code("not_found")),
            _ => ("", None),
        };
        assert!(answer.error_message.starts_with(expected.0), "{}", answer.error_message);
        assert_eq!(answer.error_message.is_empty(), id % 4 == 0);
        assert_eq!(code_of(&answer).cloned(), expected.1);
        // Who paid hears for what.
        assert_eq!(response.parameters.contains_key("fuelbox_job"), id % 4 == 0 || id % 4 == 2);
    }
    // One at a time too; then the client has said everything.
    stream.send(numbered(0));
    assert_eq!(client.next(&mut stream).unwrap().unwrap().error_message, "");
    stream.sender = None;
    assert_eq!(client.next(&mut stream).unwrap(), None);
    let mut keyed = with_key(tokio_stream::iter([good()]), &served.alice);
    keyed.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
    let (status, _, _) = refusal(client.runtime.block_on(client.stub().model_stream_infer(keyed)));
    assert_eq!(status, Code::InvalidArgument);
}

#[test]
fn a_stream_outlives_what_an_idle_connection_may() {
    let served = serve_limited(|limits| {
        limits.header_time = Duration::from_secs(2);
        limits.idle_time = Duration::from_millis(100);
    });
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let mut stream = client.stream(&served.alice);
    let mut ask = || {
        stream.send(good());
        client.next(&mut stream).unwrap().unwrap().error_message
    };
    assert_eq!(ask(), "");
    // It is silent for longer than others may be, twice.
    for _ in 0..2 {
        let mut idle = TcpStream::connect(served.addresses.grpc).unwrap();
        idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        idle.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!(ask(), "");
}

#[test]
fn a_stream_that_is_dropped_stops_its_jobs() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let stream = client.stream(&served.alice);
    stream.send(endless());
    wait_until(|| served.host.running() == 1);
    (0..2).for_each(|_| stream.send(good()));
    wait_until(|| served.host.queued() == 2);
    drop(stream);
    wait_until(|| served.host.running() + served.host.queued() == 0);
    // Those that waited never ran: nobody pays for them.
    assert_cancelled(&served, 1);
    let alice = served.host.accounts().show(&account("alice")).unwrap();
    assert_eq!(alice.debits_pending.micros(), 0);
}

#[test]
fn each_message_of_a_stream_counts_and_needs_a_valid_key() {
    let served = serve_limited(|limits| (limits.key_rate, limits.key_burst) = (1, 2));
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let mut stream = client.stream(&served.alice);
    (0..3).for_each(|_| stream.send(good()));
    let answers: Vec<_> = (0..3).map(|_| client.next(&mut stream).unwrap().unwrap()).collect();
    let sentences: Vec<_> = answers.iter().map(|answer| answer.error_message.as_str()).collect();
    assert_eq!(sentences[..2], ["", ""]);
    assert_eq!(sentences[2], "too many requests of this key: allowed are 1 a second, 2 at once");
    let key = support::key(&served.host, "bob", &[Scope::Caller]);
    let mut stream = client.stream(&key);
    stream.send(good());
    assert_eq!(client.next(&mut stream).unwrap().unwrap().error_message, "");
    served.host.access().revoke(&key[4..20].parse().unwrap()).unwrap();
    stream.send(good());
    let answer = client.next(&mut stream).unwrap().unwrap();
    let expected = parameter(ParameterChoice::StringParam("unauthenticated".into()));
    assert_eq!(code_of(&answer), Some(&expected));
}
