//! A scrape: everything that is counted, as the text of one moment.

use super::{
    exposition::{CONTENT_TYPE, Exposition, Kind},
    lines, triton,
};
use crate::{app::App, refusal::Refusal};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use fuelbox_jobs::HostFault;
use std::sync::{Arc, atomic::Ordering};
use tokio::task;

/// Answers Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    // Reads the store, and files of the system.
    let text = task::spawn_blocking(move || text(&app));
    let text = text.await.map_err(|error| Refusal::fault(&error))??;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn text(app: &App) -> Result<String, HostFault> {
    let seeing = &app.seeing;
    let mut text = Exposition::default();
    let version = crate::rest::SERVER_VERSION;
    text.family("fuelbox_build_info", Kind::Gauge, "What this is; always 1.")
        .sample(&[("version", version)], 1);
    text.gauge("fuelbox_ready", "1 when jobs are taken in.", u8::from(app.is_ready()));
    seeing.jobs.write(&mut text);
    let host = &app.host;
    text.gauge("fuelbox_queue_jobs", "Jobs that wait for a worker.", host.queued());
    let oldest = host.oldest_waits().unwrap_or_default().as_secs_f64();
    let help = "How long the job that waits longest has waited.";
    text.gauge("fuelbox_queue_oldest_seconds", help, oldest);
    text.gauge("fuelbox_running_jobs", "Jobs that run now.", host.running());
    let publishing = app.publishing.waiting();
    let help = "Packages that wait to be published, or are.";
    text.gauge("fuelbox_publishing", help, publishing);
    let receipts = host.read(|records| records.log_size())??;
    text.gauge("fuelbox_log_receipts", "Receipts in the log.", receipts);
    if let Ok(micros) = host.accounts().earned_micros() {
        let help = "Credits that the host earned and still has.";
        text.gauge("fuelbox_revenue_credits", help, micros as f64 / 1e6);
    }
    seeing.requests.write(&mut text);
    let mut family = text.family("fuelbox_connections", Kind::Gauge, "Open connections.");
    for (port, open) in seeing.connections.get().into_iter().flatten() {
        family.sample(&[("port", port)], open.load(Ordering::Relaxed));
    }
    let help = "Lines of logs that were not written: there were too many, or nobody took them.";
    let mut family = text.family("fuelbox_log_lines_lost_total", Kind::Counter, help);
    family.sample(&[("why", "rate")], seeing.lines.left_out());
    family.sample(&[("why", "writer")], lines::dropped());
    seeing.process.write(&mut text);
    triton::write(&mut text, &app.models.all());
    seeing.process.write_machine(&mut text);
    Ok(text.finish())
}
