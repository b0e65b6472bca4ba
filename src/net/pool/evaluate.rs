//! Evaluates many jobs at once, within a time limit.

use core::time::Duration;
use std::vec::Vec;

use super::job::Task;
use super::reactor::Limit;
use super::{Answered, EvaluateError, EvaluateFailure, Job, Pool, PoolEvent, Ticket};

impl Pool {
    /// Evaluates all of these jobs, and returns the answers in the order of the jobs. Other events
    /// are passed to `tell`, in particular when drivers join or leave.
    ///
    /// ```no_run
    /// use forcewire::net::{Job, Pool, PoolEvent};
    ///
    /// # fn ring(pool: &mut Pool, beads: Vec<Job>) -> Result<(), Box<dyn std::error::Error>> {
    /// let answers = pool.evaluate(beads, None, |event| {
    ///     if let PoolEvent::Left { driver, why, .. } = event {
    ///         eprintln!("driver {driver} left: {why}");
    ///     }
    /// })?;
    /// let potential: f64 = answers.iter().map(|answer| answer.evaluation.energy).sum();
    /// # let _ = potential;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EvaluateError`], with the answers so far and the jobs that have none. These jobs are
    /// [cancelled](Self::cancel). The error is returned within `patience`, if there is a limit,
    /// whatever happens.
    pub fn evaluate(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        patience: Option<Duration>,
        mut tell: impl FnMut(PoolEvent),
    ) -> Result<Vec<Answered>, EvaluateError> {
        let limit = Limit::new(patience);
        let first = self.tickets + 1;
        let mut answers: Vec<Option<Answered>> = Vec::new();
        let mut jobs = jobs.into_iter();
        if self.draining {
            let mut error = self.withdraw(first, answers, EvaluateFailure::Draining);
            error.jobs.extend(jobs);
            return Err(error);
        }
        while let Some(job) = jobs.next() {
            if let Err(refused) = self.submit(job) {
                let mut error = self.withdraw(first, answers, EvaluateFailure::Refused(refused));
                error.jobs.extend(jobs);
                return Err(error);
            }
            answers.push(None);
        }
        let place = |ticket: Ticket| usize::try_from(ticket.0.checked_sub(first)?).ok();
        let (mut missing, mut is_last) = (answers.len(), false);
        while missing > 0 {
            // After the time limit, only events that have already happened count.
            let event = if is_last {
                Ok(self.events.pop_front())
            } else {
                is_last = limit.is_over();
                self.next(limit.remaining())
            };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    return Err(self.withdraw(first, answers, EvaluateFailure::Waiting(error)));
                }
            };
            match event {
                Some(PoolEvent::Answered(answer)) => {
                    match place(answer.ticket).and_then(|at| answers.get_mut(at)) {
                        Some(place) => {
                            *place = Some(answer);
                            missing -= 1;
                        }
                        None => tell(PoolEvent::Answered(answer)),
                    }
                }
                Some(PoolEvent::GivenUp {
                    ticket,
                    job,
                    attempts,
                }) if place(ticket).is_some_and(|at| at < answers.len()) => {
                    self.queue.insert(Task::new(ticket, job)); // to be withdrawn with the others
                    let why = EvaluateFailure::GivenUp { ticket, attempts };
                    return Err(self.withdraw(first, answers, why));
                }
                Some(event) => tell(event),
                None => {
                    let why = EvaluateFailure::Late {
                        missing,
                        drivers: self.drivers(),
                        limit: patience.unwrap_or_default(),
                    };
                    return Err(self.withdraw(first, answers, why));
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Cancels and returns the jobs without an answer.
    fn withdraw(
        &mut self,
        first: u64,
        answers: Vec<Option<Answered>>,
        why: EvaluateFailure,
    ) -> EvaluateError {
        let (mut answered, mut jobs) = (Vec::new(), Vec::new());
        for (ticket, answer) in (first..).map(Ticket).zip(answers) {
            match answer {
                Some(answer) => answered.push(answer),
                None => jobs.extend(self.take(ticket)),
            }
        }
        EvaluateError {
            why,
            answered,
            jobs,
        }
    }
}
