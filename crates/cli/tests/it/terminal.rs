//! A command on a terminal as people have one: what is written to it is interpreted, and what stands on its screen in
//! the end is what a person sees.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const COLUMNS: u16 = 80;

fn whole(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

/// A terminal of 80 columns.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    typed: File,
    emulator: Arc<Mutex<vt100::Parser>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts a command on a terminal of so many rows.
    pub(crate) fn start(mut command: Command, rows: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = Winsize { ws_row: rows, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        command
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        // What the command holds of it must end with the command.
        drop(command);
        let (typed, emulator) =
            (File::from(ours), Arc::new(Mutex::new(vt100::Parser::new(whole(rows), whole(COLUMNS), 0))));
        let (mut written, shown) = (typed.try_clone().unwrap(), emulator.clone());
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = written.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..count]);
            }
        });
        Self { child, typed, emulator, reading: Some(reading) }
    }

    /// What stands on the screen, row by row.
    pub(crate) fn screen(&self) -> String {
        let parser = self.emulator.lock().unwrap();
        let rows: Vec<String> =
            parser.screen().rows(0, COLUMNS).map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n")
    }

    /// Whether anything on the screen is coloured, bold, underlined or inverse.
    pub(crate) fn is_plain(&self) -> bool {
        let parser = self.emulator.lock().unwrap();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let mut cells = (0..rows.get())
            .flat_map(|row| (0..columns.get()).filter_map(move |column| screen.cell(row, column)));
        cells.all(|cell| {
            cell.fgcolor() == vt100::Color::Default
                && cell.bgcolor() == vt100::Color::Default
                && !cell.bold()
                && !cell.underline()
                && !cell.inverse()
        })
    }

    /// The screen as soon as all of these are on it.
    #[track_caller]
    pub(crate) fn until(&self, all: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if all.iter().all(|part| screen.contains(part)) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "{all:?} was waited for in vain:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        self.typed.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for its end; everything that it wrote is on the screen then.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
