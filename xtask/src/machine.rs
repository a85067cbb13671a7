//! What it was measured on.

use serde::Serialize;
use std::{fs, thread};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// Vector extensions that matter for kernels.
    pub(crate) extensions: Vec<&'static str>,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// The load average over one minute before the first round and after the last one.
    pub(crate) load: [String; 2],
}

impl Machine {
    /// This one, with its load now.
    pub(crate) fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = field(&cpuinfo, "flags");
        let has = |flag: &str| flags.split(' ').any(|other| other == flag);
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
        let known = ["avx2", "fma", "avx512f", "avx512dq", "avx512_vnni", "amx_tile"];
        Self {
            cpu: field(&cpuinfo, "model name"),
            extensions: known.into_iter().filter(|flag| has(flag)).collect(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kib.unwrap_or_default() * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            load: [load(), String::new()],
        }
    }

    /// For the end of a report.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, kernel, load: [before, after], .. } = self;
        format!(
            "{cpu}, {cores} cores, Linux {kernel}; load average {before} before, {after} after\n"
        )
    }

    /// Notes the load after the last round.
    pub(crate) fn done(&mut self) {
        self.load[1] = load();
    }

    pub(crate) fn has(&self, extension: &str) -> bool {
        self.extensions.contains(&extension)
    }
}

fn load() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().into()
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The first `name : value` of a text.
fn field(text: &str, name: &str) -> String {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name);
    found.map(|(_, value)| value.into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 7\nmodel name\t: Some CPU @ 2: fast\nmodel name : other\n";
        assert_eq!(field(text, "model name"), "Some CPU @ 2: fast");
        assert_eq!(field(text, "name"), "");
    }
}
