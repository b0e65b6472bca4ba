! A driver in the style of codes whose fsockets.f90 binds sockets.c by name: open_socket, readbuffer
! and writebuffer, with a NUL after each text.
!
! bound INET PORT HOST K PREFIX: springs of K hartree/bohr^2 on all atoms. WITHOUT_PREFIX passes
! four arguments.

module sockets
   use, intrinsic :: iso_c_binding
   implicit none

   interface
#ifdef WITHOUT_PREFIX
      subroutine open_csocket(psockfd, inet, port, host) bind(c, name="open_socket")
         import
         integer(c_int) :: psockfd, inet, port
         character(kind=c_char), dimension(*) :: host
      end subroutine
#else
      subroutine open_csocket(psockfd, inet, port, host, prefix) bind(c, name="open_socket")
         import
         integer(c_int) :: psockfd, inet, port
         character(kind=c_char), dimension(*) :: host, prefix
      end subroutine
#endif
      subroutine writebuffer_csocket(psockfd, pdata, plen) bind(c, name="writebuffer")
         import
         integer(c_int) :: psockfd
         type(c_ptr), value :: pdata
         integer(c_int) :: plen
      end subroutine
      subroutine readbuffer_csocket(psockfd, pdata, plen) bind(c, name="readbuffer")
         import
         integer(c_int) :: psockfd
         type(c_ptr), value :: pdata
         integer(c_int) :: plen
      end subroutine
      subroutine c_sleep(seconds) bind(c, name="c_sleep")
         import
         real(c_double), value :: seconds
      end subroutine
   end interface
end module

program bound
   use sockets
   implicit none
   integer :: i
   integer(c_int), target :: socket, inet, port, nat, integers(2), length
   character(len=12, kind=c_char), target :: header
   character(len=256) :: host, prefix, text
   character(len=1, kind=c_char), target :: initbuffer(4096)
   real(c_double) :: k
   real(c_double), target :: energy, mtxbuf(9), virial(9)
   real(c_double), allocatable, target :: msgbuffer(:), forces(:)
   logical :: hasdata

   call get_command_argument(1, text); read (text, *) inet
   call get_command_argument(2, text); read (text, *) port
   call get_command_argument(3, host)
   call get_command_argument(4, text); read (text, *) k
   call get_command_argument(5, prefix)
   call c_sleep(0.001d0)
#ifdef WITHOUT_PREFIX
   call open_csocket(socket, inet, port, trim(host)//c_null_char)
#else
   call open_csocket(socket, inet, port, trim(host)//c_null_char, trim(prefix)//c_null_char)
#endif

   hasdata = .false.
   nat = -1
   do
      call readbuffer_csocket(socket, c_loc(header), 12)
      select case (trim(header))
      case ("STATUS")
         header = "READY"
         if (hasdata) header = "HAVEDATA"
         call writebuffer_csocket(socket, c_loc(header), 12)
      case ("INIT")
         call readbuffer_csocket(socket, c_loc(integers), 8)
         length = integers(2)
         call readbuffer_csocket(socket, c_loc(initbuffer), length)
      case ("POSDATA")
         call readbuffer_csocket(socket, c_loc(mtxbuf), 72)
         call readbuffer_csocket(socket, c_loc(mtxbuf), 72)
         call readbuffer_csocket(socket, c_loc(nat), 4)
         if (.not. allocated(msgbuffer)) allocate (msgbuffer(3*nat), forces(3*nat))
         call readbuffer_csocket(socket, c_loc(msgbuffer), 8*3*nat)
         call springs
         hasdata = .true.
      case ("GETFORCE")
         header = "FORCEREADY"
         call writebuffer_csocket(socket, c_loc(header), 12)
         call writebuffer_csocket(socket, c_loc(energy), 8)
         call writebuffer_csocket(socket, c_loc(nat), 4)
         call writebuffer_csocket(socket, c_loc(forces), 8*3*nat)
         call writebuffer_csocket(socket, c_loc(virial), 72)
         length = 0
         call writebuffer_csocket(socket, c_loc(length), 4)
         hasdata = .false.
      case ("EXIT")
         if (allocated(msgbuffer)) deallocate (msgbuffer, forces)
         exit
      case default
         stop 3
      end select
   end do

contains

   ! The order of operations is the same as in `forcewire driver`, so all bits agree.
   subroutine springs
      integer :: a, b
      real(c_double) :: x(3), f(3)
      energy = 0
      virial = 0
      do i = 1, nat
         x = msgbuffer(3*i - 2:3*i)
         f = -k*x
         forces(3*i - 2:3*i) = f
         energy = energy + ((0.5d0*k*x(1)*x(1) + 0.5d0*k*x(2)*x(2)) + 0.5d0*k*x(3)*x(3))
         do a = 1, 3
            virial(4*a - 3) = virial(4*a - 3) + x(a)*f(a)
            do b = a + 1, 3
               virial(3*a - 3 + b) = virial(3*a - 3 + b) + 0.5d0*(x(a)*f(b) + x(b)*f(a))
               virial(3*b - 3 + a) = virial(3*a - 3 + b)
            end do
         end do
      end do
   end subroutine
end program
