//! The process and its machine, as the system's own files say.
//!
//! What a system does not say is left out.

use super::exposition::{Exposition, Kind};
use std::{
    fs,
    sync::{Mutex, PoisonError},
};

/// What was read last: of the machine's processors, for their use between two readings.
#[derive(Default)]
pub(super) struct Process {
    last: Mutex<Option<Cpu>>,
}

/// Ticks of all processors.
#[derive(Clone, Copy)]
struct Cpu {
    busy: u64,
    all: u64,
}

/// Of this process.
struct Own {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    threads: u64,
}

impl Process {
    /// Writes what there is to say now, in the names that all clients of Prometheus use.
    pub(super) fn write(&self, text: &mut Exposition) {
        if let Some(own) = own() {
            text.counter("process_cpu_seconds_total", "Time of processors.", own.cpu_seconds);
            text.gauge(
                "process_start_time_seconds",
                "Start, in seconds since 1970.",
                own.start_seconds,
            );
            let help = "Resident memory.";
            text.gauge("process_resident_memory_bytes", help, own.resident_bytes);
            text.gauge("process_virtual_memory_bytes", "Address space.", own.virtual_bytes);
            text.gauge("process_threads", "Threads.", own.threads);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder's.
            let open = entries.count().saturating_sub(1);
            text.gauge("process_open_fds", "Open file descriptors.", open);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if let Some(limit) = limit.current {
            text.gauge("process_max_fds", "File descriptors that may be open.", limit);
        }
    }

    /// Writes what Triton says of the machine, in its names.
    pub(super) fn write_machine(&self, text: &mut Exposition) {
        if let Some(used) = self.cpu_used() {
            let help = "Use of all processors since the last scrape, from 0 to 1.";
            text.family("nv_cpu_utilization", Kind::Gauge, help).sample(&[], used);
        }
        let Ok(memory) = fs::read_to_string("/proc/meminfo") else {
            return;
        };
        let bytes = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
            let kib = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?;
            Some(kib * 1_024)
        };
        if let (Some(all), Some(free)) = (bytes("MemTotal:"), bytes("MemAvailable:")) {
            text.gauge("nv_cpu_memory_total_bytes", "Memory of the machine.", all);
            let used = all.saturating_sub(free);
            text.gauge("nv_cpu_memory_used_bytes", "Memory in use on the machine.", used);
        }
    }

    fn cpu_used(&self) -> Option<f64> {
        let now = Cpu::read(&fs::read_to_string("/proc/stat").ok()?)?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        let last = last.unwrap_or(Cpu { busy: 0, all: 0 });
        let all = now.all.saturating_sub(last.all);
        // Two scrapes within a tick: nothing happened in between.
        Some(now.busy.saturating_sub(last.busy) as f64 / all.max(1) as f64)
    }
}

impl Cpu {
    /// From the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what
    /// guests used is in user already.
    fn read(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Option<Vec<u64>> =
            line.split_whitespace().take(8).map(|ticks| ticks.parse().ok()).collect();
        let ticks = ticks.filter(|ticks| ticks.len() == 8)?;
        let all: u64 = ticks.iter().sum();
        Some(Self { busy: all.saturating_sub(ticks[3] + ticks[4]), all })
    }
}

fn own() -> Option<Own> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name is in brackets and may hold anything; the third field follows it.
    let (_, stat) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = stat.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks_s = rustix::param::clock_ticks_per_second() as f64;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse::<u64>().ok()?;
    Some(Own {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks_s,
        threads: field(20)?,
        start_seconds: boot as f64 + field(22)? as f64 / ticks_s,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_busy_when_they_neither_idle_nor_wait() {
        let cpu = Cpu::read("cpu  10 20 30 400 500 1 2 3 99 99\ncpu0 1\n").expect("a line");
        assert_eq!((cpu.busy, cpu.all), (66, 966));
        assert!(Cpu::read("cpu0 1 2 3 4 5 6 7 8\n").is_none());
        assert!(Cpu::read("cpu 1 2 x 4 5 6 7 8\n").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_one() {
        let own = own().expect("the system says");
        assert!(own.resident_bytes > 1 << 20 && own.virtual_bytes > own.resident_bytes);
        assert!(own.threads >= 1 && own.start_seconds > 1e9);
    }
}
