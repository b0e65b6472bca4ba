! Two drivers and two servers, each in its own thread, all at once. No driver may receive a number
! of the other pair.
!
!   together N: N evaluations per pair, half of them step by step, half through %serve.

module apart
   use, intrinsic :: iso_c_binding
   use forcewire
   implicit none

   integer, parameter :: dp = c_double

   !> Checks a structure, then replies with the numbers that `reply` computes from it.
   type, extends(forcewire_potential) :: checks
      integer :: pair = 0, n = 0
   contains
      procedure :: evaluate
   end type

   interface
      integer(c_int) function socketpair(domain, kind, protocol, sockets) bind(c)
         import
         integer(c_int), value :: domain, kind, protocol
         integer(c_int), intent(out) :: sockets(2)
      end function
   end interface

contains

   !> Structure n of a pair. All of its numbers are unique to this pair.
   recursive subroutine structure(pair, n, cell, positions)
      integer, intent(in) :: pair, n
      real(dp), intent(out) :: cell(3, 3)
      real(dp), allocatable, intent(inout) :: positions(:, :)
      integer :: i, j
      cell = 0
      do i = 1, 3
         cell(i, i) = 100*pair + mod(n, 7) + i
      end do
      if (allocated(positions)) deallocate (positions)
      allocate (positions(3, 3*pair + mod(n, 3)))
      do j = 1, size(positions, 2)
         do i = 1, 3
            positions(i, j) = 1000000*pair + n + (3*j + i)/32d0
         end do
      end do
   end subroutine

   recursive subroutine check(pair, n, cell, positions)
      integer, intent(in) :: pair, n
      real(dp), intent(in) :: cell(3, 3), positions(:, :)
      real(dp), allocatable :: expected(:, :)
      real(dp) :: expected_cell(3, 3)
      call structure(pair, n, expected_cell, expected)
      if (any(cell /= expected_cell)) call fail(pair, n, "the cell is not that of this driver")
      if (size(positions, 2) /= size(expected, 2)) call fail(pair, n, "there are not as many atoms as were sent")
      if (any(positions /= expected)) call fail(pair, n, "the positions are not those that were sent")
   end subroutine

   recursive subroutine fail(pair, n, text)
      integer, intent(in) :: pair, n
      character(len=*), intent(in) :: text
      print "(a, i0, a, i0, 2a)", "pair ", pair, ", evaluation ", n, ": ", text
      error stop 1
   end subroutine

   recursive subroutine evaluate(self, cell, positions, energy, forces, virial, stat)
      class(checks), intent(inout) :: self
      real(dp), intent(in) :: cell(3, 3), positions(:, :)
      real(dp), intent(inout) :: energy, forces(:, :), virial(3, 3)
      integer, intent(inout) :: stat
      self%n = self%n + 1
      call check(self%pair, self%n, cell, positions)
      energy = self%n
      forces = 2*positions
      virial = cell
      stat = 0
   end subroutine

   !> The first half of the evaluations goes step by step, the rest through %serve.
   recursive subroutine drive(pair, socket, times)
      integer, intent(in) :: pair, socket, times
      type(forcewire_driver) :: driver
      type(checks) :: potential
      real(dp), allocatable :: positions(:, :)
      real(dp) :: cell(3, 3)
      integer :: event, n
      call driver%adopt(socket, flags=FORCEWIRE_CHANGING_ATOMS)
      do n = 1, times/2
         call driver%receive(event, cell, positions)
         if (event /= FORCEWIRE_EVENT_POSITIONS) call fail(pair, n, "the event is not that of this driver")
         call check(pair, n, cell, positions)
         call driver%reply(real(n, dp), 2*positions, cell)
      end do
      potential%pair = pair
      potential%n = times/2
      call driver%serve(potential)
      if (potential%n /= times) call fail(pair, potential%n, "was the last")
      call driver%close
   end subroutine

   recursive subroutine ask(pair, socket, times)
      integer, intent(in) :: pair, socket, times
      type(forcewire_server) :: server
      real(dp), allocatable :: positions(:, :), forces(:, :)
      real(dp) :: cell(3, 3), energy, virial(3, 3)
      integer :: n
      call server%adopt(socket, flags=FORCEWIRE_CHANGING_ATOMS)
      do n = 1, times
         call structure(pair, n, cell, positions)
         if (allocated(forces)) deallocate (forces)
         allocate (forces, mold=positions)
         call server%evaluate(cell, positions, energy, forces, virial)
         if (energy /= n .or. any(forces /= 2*positions) .or. any(virial /= cell)) &
            call fail(pair, n, "the answer is not that of this driver")
      end do
      call server%exit
      call server%close
   end subroutine
end module

program together
   use apart
   implicit none
   integer(c_int), parameter :: AF_UNIX = 1, SOCK_STREAM = 1
   integer(c_int) :: sockets(2, 2)
   character(len=16) :: text
   integer :: end, pair, times
   call get_command_argument(1, text)
   read (text, *) times
   do pair = 1, 2
      if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets(:, pair)) /= 0) error stop 2
   end do
   !$omp parallel do num_threads(4) schedule(static, 1) private(pair)
   do end = 1, 4
      pair = 1 + mod(end, 2)
      if (end <= 2) then
         call drive(pair, sockets(1, pair), times)
      else
         call ask(pair, sockets(2, pair), times)
      end if
   end do
   !$omp end parallel do
   print "(i0, a)", 2*times, " evaluations"
end program
