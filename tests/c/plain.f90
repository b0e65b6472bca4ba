! A driver in the style of codes that call sockets.c without an interface: gfortran looks for
! open_socket_, readbuffer_ and writebuffer_, counts are in bytes, and the lengths of texts come
! after the arguments.
!
! plain INET PORT HOST K [PREFIX]: springs of K hartree/bohr^2 on all atoms.

program plain
   implicit none
   integer, parameter :: msglen = 12
   external :: open_socket, readbuffer, writebuffer
   integer :: socket, inet, port, nat, i, replica, length
   character(len=12) :: header
   character(len=1024) :: host, prefix, text
   character(len=4096) :: initbuffer
   double precision :: k, energy, mtxbuf(9), virial(3, 3)
   double precision, allocatable :: msgbuffer(:), positions(:, :), forces(:, :)
   logical :: hasdata

   call get_command_argument(1, text); read (text, *) inet
   call get_command_argument(2, text); read (text, *) port
   call get_command_argument(3, host)
   call get_command_argument(4, text); read (text, *) k
   prefix = ""
   call get_command_argument(5, prefix)
   if (prefix /= "") then
      call open_socket(socket, inet, port, trim(host), trim(prefix))
   else
      call open_socket(socket, inet, port, trim(host)//achar(0))
   end if

   hasdata = .false.
   nat = -1
   do
      call readbuffer(socket, header, msglen)
      select case (trim(header))
      case ("STATUS")
         if (hasdata) then
            call writebuffer(socket, "HAVEDATA    ", msglen)
         else
            call writebuffer(socket, "READY       ", msglen)
         end if
      case ("INIT")
         call readbuffer(socket, replica, 4)
         call readbuffer(socket, length, 4)
         call readbuffer(socket, initbuffer, length)
      case ("POSDATA")
         call readbuffer(socket, mtxbuf, 9*8)
         call readbuffer(socket, mtxbuf, 9*8)
         call readbuffer(socket, nat, 4)
         if (.not. allocated(msgbuffer)) allocate (msgbuffer(3*nat), positions(3, nat), forces(3, nat))
         call readbuffer(socket, msgbuffer, nat*3*8)
         do i = 1, nat
            positions(:, i) = msgbuffer(3*(i - 1) + 1:3*i)
         end do
         call springs
         hasdata = .true.
      case ("GETFORCE")
         do i = 1, nat
            msgbuffer(3*(i - 1) + 1:3*i) = forces(:, i)
         end do
         call writebuffer(socket, "FORCEREADY  ", msglen)
         call writebuffer(socket, energy, 8)
         call writebuffer(socket, nat, 4)
         call writebuffer(socket, msgbuffer, 3*nat*8)
         call writebuffer(socket, virial, 9*8)
         initbuffer = " "
         call writebuffer(socket, 0, 4)
         call writebuffer(socket, initbuffer, 0)
         hasdata = .false.
      case ("EXIT")
         if (allocated(msgbuffer)) deallocate (msgbuffer, positions, forces)
         exit
      case default
         stop 3
      end select
   end do

contains

   ! The order of operations is the same as in `forcewire driver`, so all bits agree.
   subroutine springs
      integer :: a, b
      energy = 0
      virial = 0
      do i = 1, nat
         energy = energy + ((0.5d0*k*positions(1, i)*positions(1, i) + 0.5d0*k*positions(2, i)*positions(2, i)) &
                            + 0.5d0*k*positions(3, i)*positions(3, i))
         forces(:, i) = -k*positions(:, i)
         do b = 1, 3
            do a = 1, b - 1
               virial(a, b) = virial(a, b) + 0.5d0*(positions(a, i)*forces(b, i) + positions(b, i)*forces(a, i))
               virial(b, a) = virial(a, b)
            end do
            virial(b, b) = virial(b, b) + positions(b, i)*forces(b, i)
         end do
      end do
   end subroutine
end program
