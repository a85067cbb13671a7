//! A plan is carried out.
//!
//! First one request of each traffic, for its outputs; then all connections take turns until the time is
//! over, and wait for the answers that are due.

use crate::{
    answer::{Answer, Status},
    connection::Connection,
    leave::leave,
    message::Template,
    plan::Plan,
    report::Report,
    tallies::Tallies,
    turns::Turns,
};
use anyhow::{Context, Result};
use std::{
    cell::RefCell,
    fs,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Builder,
    task::{self, JoinSet, LocalSet},
    time,
};

/// Before a connection that was refused is tried again.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// Of a report: enough to tell one model from another.
const OUTPUTS_MAX: usize = 64;

/// Carries out a plan on this thread.
///
/// # Errors
///
/// When the plan is out of bounds, or the kernel has no sockets for it. What a server does is no error
/// but in the report.
pub fn run(plan: &Plan) -> Result<Report> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, all(plan.clone()))
}

struct Shared {
    plan: Plan,
    templates: Vec<Template>,
    turns: Turns,
    tallies: RefCell<Tallies>,
}

async fn all(plan: Plan) -> Result<Report> {
    let template = |traffic| Template::new(traffic, plan.protocol, plan.address);
    let templates = plan.traffic.iter().map(template).collect::<Result<Vec<_>>>()?;
    let first = first(&plan, &templates).await;
    let start = Instant::now();
    let turns = Turns::new(&plan, start)?;
    let mut tallies = Tallies::new(&plan, start)?;
    for (at, answer) in first.into_iter().enumerate() {
        tallies.answered(at, &answer, start, start);
        if answer.status.succeeded() {
            let mut outputs = answer.outputs().context("the first answer")?;
            outputs.truncate(OUTPUTS_MAX);
            tallies.outputs(at, outputs);
        }
    }
    let warmup = Duration::from_secs_f64(plan.warmup_s);
    let measured = Duration::from_secs_f64(plan.measured_s);
    let connections = plan.connections;
    let shared = Rc::new(Shared { plan, templates, turns, tallies: RefCell::new(tallies) });
    let cpu = task::spawn_local(async move {
        time::sleep_until((start + warmup).into()).await;
        let before = cpu_s();
        time::sleep_until((start + warmup + measured).into()).await;
        cpu_s() - before
    });
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn_local(work(shared.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker.context("a worker")?;
    }
    let client_cpu_s = cpu.await?;
    let shared = Rc::into_inner(shared).context("workers are gone")?;
    let unsent = shared.turns.unsent();
    shared.tallies.into_inner().report(&shared.plan, unsent, client_cpu_s)
}

/// Number 0 of each traffic.
async fn first(plan: &Plan, templates: &[Template]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for template in templates {
        answers.push(match Connection::open(plan.protocol, plan.address).await {
            Ok(mut connection) => connection.ask(template, template.body(0)).await,
            Err(_) => Answer::without(Status::Refused),
        });
    }
    answers
}

/// One connection: it takes turns until there are none.
async fn work(shared: Rc<Shared>) {
    let Plan { protocol, address, .. } = shared.plan;
    let mut connection: Option<Connection> = None;
    while let Some(turn) = shared.turns.next(Instant::now()) {
        if turn.due > Instant::now() {
            time::sleep_until(turn.due.into()).await;
        }
        let template = &shared.templates[turn.traffic];
        let body = template.body(turn.number);
        let answer = match (turn.leaves_after, &mut connection) {
            (Some(after), _) => match leave(protocol, address, (template, body), after).await {
                Some(answer) => answer,
                None => {
                    shared.tallies.borrow_mut().left(turn.traffic);
                    continue;
                }
            },
            (None, Some(connection)) => connection.ask(template, body).await,
            (None, none) => match Connection::open(protocol, address).await {
                Ok(opened) => none.insert(opened).ask(template, body).await,
                Err(_) => {
                    time::sleep(REFUSED_PAUSE).await;
                    Answer::without(Status::Refused)
                }
            },
        };
        if !answer.status.answered() {
            connection = None;
        }
        shared.tallies.borrow_mut().answered(turn.traffic, &answer, turn.due, Instant::now());
    }
}

/// Of this process, which has one thread; 0 where the kernel does not say.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let ns = stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    ns.unwrap_or_default() / 1e9
}
