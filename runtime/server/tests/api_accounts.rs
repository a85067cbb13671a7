//! Accounts, keys, publishers, usage and the log in fuelbox's own API.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_digest::Digest;
use fuelbox_jobs::{NewAccessKey, Scope};
use fuelbox_ledger::Credits;
use fuelbox_receipt::{
    HostKey, KeyRing,
    log::{Checkpoint, verify_consistency},
};
use fuelbox_test_support::guest::Guest;
use serde_json::{Value, json};
use support::{Served, account, json as read_json, key, refusal, serve};

fn get(served: &Served, path: &str, key: &str) -> (u16, Value) {
    read_json(served.get(&format!("/api/v1{path}"), key).send().unwrap())
}

fn post(served: &Served, path: &str, key: &str, body: &Value) -> (u16, Value) {
    read_json(served.post(&format!("/api/v1{path}"), key).json(body).send().unwrap())
}

fn delete(served: &Served, path: &str, key: &str) -> u16 {
    let request = served.client.delete(served.url(&format!("/api/v1{path}")));
    request.bearer_auth(key).send().unwrap().status().as_u16()
}

fn run(served: &Served, key: &str) {
    let body = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]});
    let response = served.post("/v2/models/tiny/infer", key).json(&body).send().unwrap();
    assert_eq!(response.status(), 200);
}

#[test]
fn an_operator_opens_accounts_and_moves_credits_once() {
    let served = serve();
    let operator = &served.operator;
    let new = json!({"id": "carol", "kind": "caller"});
    let (status, carol) = post(&served, "/accounts", operator, &new);
    assert_eq!((status, &carol["balance"]), (201, &json!("0")));
    assert_eq!(post(&served, "/accounts", operator, &new).0, 200);
    let other = json!({"id": "carol", "kind": "publisher"});
    assert_eq!(post(&served, "/accounts", operator, &other).0, 409);

    let gift = json!({"credits": "12.5", "id": "gift:1"});
    let (status, moved) = post(&served, "/accounts/carol/top-ups", operator, &gift);
    assert_eq!(
        (status, &moved["balance"], &moved["repeated"]),
        (201, &json!("12.5"), &json!(false))
    );
    let (status, moved) = post(&served, "/accounts/carol/top-ups", operator, &gift);
    assert_eq!(
        (status, &moved["balance"], &moved["repeated"]),
        (200, &json!("12.5"), &json!(true))
    );
    let more = json!({"credits": "1", "id": "gift:1"});
    assert_eq!(post(&served, "/accounts/carol/top-ups", operator, &more).0, 409);
    let (status, paid) =
        post(&served, "/accounts/carol/payouts", operator, &json!({"credits": "2"}));
    assert_eq!(
        (status, &paid["balance"], &paid["purpose"]),
        (201, &json!("10.5"), &json!("payout"))
    );
    let (status, paid) =
        post(&served, "/accounts/carol/payouts", operator, &json!({"credits": "11"}));
    assert_eq!((status, &paid["balance"], &paid["price"]), (402, &json!("10.5"), &json!("11")));
    for credits in
        [json!("0"), json!("-1"), json!("1.0000001"), json!(1), json!("9223372036854.775808")]
    {
        let body = json!({"credits": credits});
        assert_eq!(post(&served, "/accounts/carol/top-ups", operator, &body).0, 400, "{body}");
    }
    let nobody = post(&served, "/accounts/nobody/top-ups", operator, &json!({"credits": "1"}));
    assert_eq!(nobody.0, 404);
    let (_, page) = get(&served, "/accounts?limit=2", operator);
    assert_eq!(page["accounts"][0]["id"], "alice");
    assert_eq!(page["next"], "bob");
    let (_, page) = get(&served, "/accounts?after=pub", operator);
    assert_eq!(page["accounts"][0]["id"], "revenue");
    assert_eq!(page["next"], Value::Null);
    assert_eq!(get(&served, "/accounts/operator", operator).1["balance"], "-3010.5");
    let (_, statement) = get(&served, "/accounts/carol/statement?limit=1", operator);
    assert_eq!(statement["lines"][0]["change"], "-2");
    let before = format!("/accounts/carol/statement?before={}", statement["next"]);
    assert_eq!(get(&served, &before, operator).1["lines"][0]["change"], "12.5");
}

#[test]
fn routes_of_the_operator_are_closed_to_others() {
    let served = serve();
    for (method, path) in [
        ("GET", "/accounts"),
        ("POST", "/accounts"),
        ("GET", "/accounts/alice"),
        ("GET", "/accounts/nobody"),
        ("GET", "/accounts/alice/statement"),
        ("POST", "/accounts/alice/top-ups"),
        ("POST", "/accounts/alice/payouts"),
        ("POST", "/accounts/alice/refunds"),
        ("GET", "/spaces"),
        ("POST", "/spaces"),
    ] {
        for key in [&served.alice, &served.publisher] {
            let path = format!("/api/v1{path}");
            let request =
                if method == "GET" { served.get(&path, key) } else { served.post(&path, key) };
            let (status, code, sentence) = refusal(request.send().unwrap());
            assert_eq!((status, code.as_str()), (403, "forbidden"), "{path}");
            assert!(!sentence.contains("alice"), "{sentence}");
        }
    }
}

#[test]
fn a_statement_tells_what_moved_but_not_who_ran_whose_package() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    run(&served, &served.alice);
    let lines = |key: &str| get(&served, "/account/statement", key).1["lines"].clone();
    let alices = lines(&served.alice);
    assert!(alices.as_array().unwrap().iter().any(|line| line["purpose"] == "share"), "{alices}");
    let pubs = lines(&served.publisher);
    let earned = pubs.as_array().unwrap().iter().find(|line| line["purpose"] == "share").unwrap();
    assert_eq!((&earned["other"], &earned["id"]), (&Value::Null, &Value::Null));
    assert_eq!(earned["change"], earned["amount"]);
    assert!(!pubs.to_string().contains("alice"), "{pubs}");
    let mine = get(&served, "/account", &served.alice).1;
    assert_eq!((&mine["id"], &mine["kind"]), (&json!("alice"), &json!("caller")));
    assert_eq!(alices[0]["balance"], mine["balance"]);
}

#[test]
fn usage_is_ones_own_and_earnings_are_of_ones_own_packages() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    run(&served, &served.alice);
    run(&served, &served.alice);
    run(&served, &served.bob);
    let (_, usage) = get(&served, "/usage", &served.alice);
    assert_eq!(usage["usage"][0]["name"], "tiny:1");
    assert_eq!(usage["usage"][0]["jobs"], 2);
    assert_eq!(usage["earnings"], Value::Null);
    let (_, usage) = get(&served, "/usage?by=account", &served.bob);
    assert_eq!(usage["usage"].as_array().unwrap().len(), 1);
    assert_eq!(usage["usage"][0]["name"], "bob");
    let (_, usage) = get(&served, "/usage?by=package", &served.publisher);
    assert_eq!(usage["usage"], json!([]));
    assert_eq!(usage["earnings"][0]["jobs"], 3);
    assert_eq!(get(&served, "/usage", &served.operator).1["usage"][0]["jobs"], 3);
    assert_eq!(get(&served, "/usage?account=bob", &served.operator).1["usage"][0]["jobs"], 1);
    assert_eq!(get(&served, "/usage?account=bob", &served.alice).0, 403);
    let later = get(&served, "/usage?since=2999-01-01T00:00:00Z", &served.alice);
    assert_eq!(later.1["usage"], json!([]));
    assert_eq!(get(&served, "/usage?since=yesterday", &served.alice).0, 400);
    assert_eq!(get(&served, "/usage?by=colour", &served.alice).0, 400);
}

#[test]
fn a_key_is_shown_once_works_and_is_taken_back() {
    let served = serve();
    let new =
        json!({"account": "alice", "scopes": ["caller"], "name": "laptop", "spend_limit": "1.5"});
    let (status, made) = post(&served, "/keys", &served.operator, &new);
    assert_eq!(status, 201, "{made}");
    let text = made["key"].as_str().unwrap();
    assert_eq!((&made["spend_limit"], &made["spent"]), (&json!("1.5"), &json!("0")));
    assert_eq!(get(&served, "/account", text).1["id"], "alice");
    let (_, list) = get(&served, "/keys", &served.alice);
    let list = list["keys"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert!(list.iter().all(|key| key["account"] == "alice" && key["key"].is_null()), "{list:?}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(delete(&served, &format!("/keys/{id}"), &served.bob), 404);
    assert_eq!(delete(&served, "/keys/nothing", &served.bob), 404);
    assert_eq!(delete(&served, &format!("/keys/{id}"), &served.alice), 204);
    assert_eq!(get(&served, "/account", text).0, 401);
    let past = json!({"account": "alice", "scopes": ["caller"], "expires": "2020-01-01T00:00:00Z"});
    assert_eq!(post(&served, "/keys", &served.operator, &past).0, 400);
    let wrong = json!({"account": "alice", "scopes": ["publisher"]});
    assert_eq!(post(&served, "/keys", &served.operator, &wrong).0, 400);
}

#[test]
fn no_key_makes_one_that_may_do_more_than_itself() {
    let served = serve();
    let host = &served.host;
    let caller = json!({"scopes": ["caller"]});
    assert_eq!(post(&served, "/keys", &served.alice, &caller).0, 201);
    let forbidden = |key: &str, body: &Value| {
        let (status, answer) = post(&served, "/keys", key, body);
        assert_eq!(status, 403, "{body}: {answer}");
    };
    forbidden(&served.alice, &json!({"scopes": ["operator"]}));
    forbidden(&served.alice, &json!({"scopes": ["caller", "publisher"]}));
    forbidden(&served.alice, &json!({"scopes": ["caller"], "account": "bob"}));
    forbidden(&served.alice, &json!({"scopes": ["caller"], "account": "nobody"}));
    // A publisher's caller key is none of a publisher.
    forbidden(&key(host, "pub", &[Scope::Caller]), &json!({"scopes": ["publisher"]}));
    let special = |change: &dyn Fn(&mut NewAccessKey)| {
        let mut new = NewAccessKey::new(account("pub"), Scope::Publisher);
        change(&mut new);
        host.access().create(new).unwrap().1.to_string()
    };
    let limited = special(&|new| new.spend_limit = Credits::from_micros(1));
    forbidden(&limited, &json!({"scopes": ["publisher"]}));
    let spaced = special(&|new| new.spaces = Some(vec!["acme".into()]));
    forbidden(&spaced, &json!({"scopes": ["publisher"]}));
    forbidden(&spaced, &json!({"scopes": ["publisher"], "spaces": ["acme", "other"]}));
    let inside = json!({"scopes": ["publisher"], "spaces": ["acme"]});
    assert_eq!(post(&served, "/keys", &spaced, &inside).0, 201);
    // The year 2100.
    let short = special(&|new| new.expires_unix_ms = Some(4_102_444_800_000));
    forbidden(&short, &json!({"scopes": ["publisher"]}));
    forbidden(&short, &json!({"scopes": ["publisher"], "expires": "2100-01-01T00:00:00.001Z"}));
    let sooner = json!({"scopes": ["publisher"], "expires": "2100-01-01T00:00:00Z"});
    assert_eq!(post(&served, "/keys", &short, &sooner).0, 201);
    // A key that leaked does not shut out its owner.
    let strong = host.access().list(Some(&account("pub"))).unwrap();
    let strong = strong.iter().find(|key| key.scopes.iter().count() == 2).unwrap().id;
    assert_eq!(delete(&served, &format!("/keys/{strong}"), &limited), 403);
}

#[test]
fn publishers_register_keys_and_operators_give_name_spaces() {
    let served = serve();
    let signing = HostKey::generate().unwrap();
    let new = json!({"public_key": signing.public_pem()});
    let (status, made) = post(&served, "/publisher-keys", &served.publisher, &new);
    assert_eq!((status, &made["id"]), (201, &json!(signing.id().to_string())));
    assert_eq!(made["public_key"], signing.public_pem());
    assert_eq!(post(&served, "/publisher-keys", &served.alice, &new).0, 403);
    assert_eq!(
        post(&served, "/publisher-keys", &served.publisher, &json!({"public_key": ""})).0,
        400
    );
    let (_, list) = get(&served, "/publisher-keys", &served.publisher);
    assert_eq!(list["keys"], json!([made]));
    let path = format!("/publisher-keys/{}", signing.id());
    served
        .host
        .accounts()
        .create(&account("other"), fuelbox_ledger::AccountKind::Publisher)
        .unwrap();
    let other = key(&served.host, "other", &[Scope::Publisher]);
    assert_eq!(delete(&served, &path, &other), 404);
    assert_eq!(delete(&served, &path, &served.publisher), 204);
    assert_eq!(post(&served, "/publisher-keys", &served.publisher, &new).0, 409);

    let space = json!({"space": "acme", "account": "pub"});
    assert_eq!(post(&served, "/spaces", &served.operator, &space).0, 201);
    let taken = json!({"space": "acme", "account": "other"});
    assert_eq!(post(&served, "/spaces", &served.operator, &taken).0, 409);
    let wrong = json!({"space": "Acme", "account": "pub"});
    assert_eq!(post(&served, "/spaces", &served.operator, &wrong).0, 400);
    let (_, list) = get(&served, "/spaces", &served.operator);
    assert_eq!(
        (&list["spaces"][0]["space"], &list["spaces"][0]["account"]),
        (&json!("acme"), &json!("pub"))
    );
}

#[test]
fn the_log_and_prices_are_everybodys() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let text = |path: &str| {
        let response = served.get(&format!("/api/v1{path}"), "").send().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.text().unwrap()
    };
    let (_, prices) = get(&served, "/prices", "");
    assert_eq!(prices["digest"], served.host.prices().digest().to_string());
    let keys = KeyRing::from_pem(&text("/log/keys")).unwrap();
    let origin = served.host.log_origin();
    let checkpoint = || Checkpoint::open(&text("/log/checkpoint"), &keys, &origin).unwrap();
    run(&served, &served.alice);
    run(&served, &served.alice);
    let old = checkpoint();
    run(&served, &served.bob);
    let new = checkpoint();
    assert_eq!((old.size, new.size), (2, 3));
    let (_, proof) = get(&served, "/log/consistency?from=2", "");
    let hashes = proof["hashes"].as_array().unwrap().iter();
    let hashes: Vec<Digest> = hashes.map(|hash| hash.as_str().unwrap().parse().unwrap()).collect();
    verify_consistency(old.size, &old.root, new.size, &new.root, &hashes).unwrap();
    assert_eq!(get(&served, "/log/consistency?from=0&to=0", "").1["hashes"], json!([]));
    for query in ["from=2&to=4", "from=3&to=2", "", "from=a"] {
        assert_eq!(get(&served, &format!("/log/consistency?{query}"), "").0, 400, "{query}");
    }
}
