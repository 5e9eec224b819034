//! A Python that has done its imports serves requests, each of which finds it new.

use std::time::Duration;

use ampoule::{Files, Limits, Pool, Program, ProgramError};

const DRIVER: &str = "import json, math, re, sys\nexec(compile(sys.stdin.read(), 'request', 'exec'))";

#[test]
fn requests_find_the_interpreter_with_its_imports_and_nothing_of_each_other() {
    let python = Program::new("/usr/bin/python3").files(Files::libraries().tmp(1 << 20)).args(["-I", "-c", DRIVER]);
    let limits = Limits::new().deadline(Duration::from_secs(60));
    let idle = python.memory_limit(256 << 20).limits(limits).start().unwrap().run_until_input();
    let pool = Pool::new(&idle.unwrap().snapshot().unwrap(), 1).unwrap();
    for _ in 0..3 {
        for (request, answer) in [
            ("print(json.dumps([6 * 7]))", "[42]\n"),
            ("math.pi = 3; kept = 1; open('/tmp/left', 'w').write('x'); print(math.pi)", "3\n"),
            ("import os; print(math.pi > 3, 'kept' in globals(), os.path.exists('/tmp/left'))", "True False False\n"),
        ] {
            let output = pool.take().unwrap().input(request).run().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), answer, "{request}: {errors}");
        }
        let error = pool.take().unwrap().input("while True: pass").deadline(Duration::from_millis(50)).run();
        assert!(matches!(error, Err(ProgramError::Terminated { .. })), "{error:?}");
    }
    assert_eq!(pool.stats().replaced, 0);
}
