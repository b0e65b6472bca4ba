! A driver in Fortran: each atom on its own spring. README.md has the commands.
!
! driver [ADDRESS]: the server's address, by default localhost:31415, or unix:NAME.

program driver
   use, intrinsic :: iso_fortran_env, only: real64
   use forcewire
   implicit none
   real(real64), parameter :: k = 0.04_real64 ! hartree/bohr^2
   type(forcewire_driver) :: server
   real(real64), allocatable :: r(:, :), f(:, :)
   real(real64) :: cell(3, 3), energy, virial(3, 3)
   character(len=256) :: address
   integer :: event, i, a

   address = "localhost:31415"
   if (command_argument_count() > 0) call get_command_argument(1, address)
   call server%connect(address, FORCEWIRE_INIT_EVERY_STEP)
   do
      call server%receive(event, cell, r)
      if (event == FORCEWIRE_EVENT_INIT) cycle
      if (event /= FORCEWIRE_EVENT_POSITIONS) exit
      f = -k*r
      energy = 0
      virial = 0
      do i = 1, size(r, 2)
         energy = energy + (0.5_real64*k*r(1, i)*r(1, i) + 0.5_real64*k*r(2, i)*r(2, i) + 0.5_real64*k*r(3, i)*r(3, i))
         do a = 1, 3
            virial(:, a) = virial(:, a) + 0.5_real64*(r(:, i)*f(a, i) + r(a, i)*f(:, i))
         end do
      end do
      call server%reply(energy, f, virial)
   end do
   call server%close
end program
