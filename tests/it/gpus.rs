//! Metrics of GPUs, with a management library that the C compiler makes in place of NVIDIA's.

use crate::support::Program;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The lines of GPUs in the metrics.
fn gpus(program: &Program) -> Vec<String> {
    let (head, body) = program.exchange("GET", "/metrics", &Value::Null);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.lines().filter(|line| line.starts_with("latentd_gpu_")).map(str::to_owned).collect()
}

#[test]
fn the_metrics_have_what_the_driver_tells_of_gpus() {
    let place = tempfile::tempdir().expect("a directory");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gpus/nvml.c");
    let library = place.path().join("libnvidia-ml.so.1");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("a C compiler").success());
    let folder = place.path();
    let program =
        Program::start_in(&folder.join("data"), &["--workers", "0"], &[("LD_LIBRARY_PATH", folder)]);
    assert_eq!(
        gpus(&program),
        [
            r#"latentd_gpu_memory_used_bytes{device="cuda:0"} 12000000000.0"#,
            r#"latentd_gpu_memory_used_bytes{device="cuda:1"} 0.0"#,
            r#"latentd_gpu_memory_total_bytes{device="cuda:0"} 80000000000.0"#,
            r#"latentd_gpu_memory_total_bytes{device="cuda:1"} 80000000000.0"#,
            r#"latentd_gpu_utilization_ratio{device="cuda:0"} 0.87"#,
            r#"latentd_gpu_utilization_ratio{device="cuda:1"} 0.0"#,
            r#"latentd_gpu_temperature_celsius{device="cuda:0"} 64.0"#,
        ]
    );
}

/// A file that is no library is found first, so that it is so on a machine with a driver too.
#[test]
fn without_a_driver_there_are_no_such_metrics() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("libnvidia-ml.so.1"), "no library").expect("a file");
    let variables = [("LD_LIBRARY_PATH", place.path())];
    let program = Program::start_in(&place.path().join("data"), &["--workers", "0"], &variables);
    assert_eq!(gpus(&program), [""; 0]);
}
